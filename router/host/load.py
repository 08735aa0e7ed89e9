"""The engine's load as moving averages of the statistics that vLLM logs after each step. Callers pass the time."""

from router.ipc.messages import Load
from router.native.cost import StepMeter
from router.steps import StepSums

#: How much of the past a new sample leaves: the average follows within some fifty samples.
_KEEP = 0.98
#: A sample counts as at most this many times slower than the average: one compilation must not pass for the norm.
_OUTLIER = 8.0


class Ratio:
    """A moving average of `amount / per`, in which large samples weigh more."""

    __slots__ = ("_amount", "_per")

    def __init__(self) -> None:
        self._amount = 0.0
        self._per = 0.0

    def add(self, amount: float, per: float) -> None:
        if per <= 0:
            return
        if amount > 0 and self._amount > 0:
            per = min(per, _OUTLIER * amount / self.value)
        self._amount = self._amount * _KEEP + amount
        self._per = self._per * _KEEP + per

    @property
    def value(self) -> float:
        """0 while unknown."""
        return self._amount / self._per if self._per else 0.0


class LoadMeter:
    """Sums the engines of one host (data parallel ranks); most have one."""

    def __init__(self) -> None:
        self._running: dict[int, int] = {}
        self._waiting: dict[int, int] = {}
        self._kv_use: dict[int, float] = {}
        self._token_rate = Ratio()  # of one stream
        self._prefill = Ratio()
        self._hits = Ratio()
        self._last_step: float | None = None
        self._steps = StepMeter()
        self._held = 0  # tokens of the sequences that have their first token
        self._ended_tokens = self._fresh = self._computed = 0  # of the step under way
        self._scheduled_s = 0.0  # the earliest of its fresh sequences
        self._alive = 0  # sequences with a token that go on

    def scheduled(self, engine: int, running: int, waiting: int, kv_use: float) -> None:
        """The scheduler's state after a step of `engine`."""
        self._running[engine] = running
        self._waiting[engine] = waiting
        self._kv_use[engine] = kv_use
        self._steps.stepped(running > self._alive)
        self._alive = 0

    def stepped(self, now: float, streams: int, tokens: int) -> None:
        """A step gave `tokens` to `streams` requests. Steps after an idle engine say nothing of its pace."""
        self._steps.outputs(now, streams, self._fresh, self._held, self._computed, self._scheduled_s)
        self._held = max(0, self._held + tokens - self._ended_tokens)
        self._alive += streams
        if self._fresh or self._ended_tokens:
            self._fresh = self._computed = self._ended_tokens = 0
            self._scheduled_s = 0.0
        if self._last_step is not None and tokens and any(self._running.values()):
            step_s = now - self._last_step
            self._token_rate.add(tokens, step_s * streams)
        self._last_step = now

    def prefilled(self, tokens: int, seconds: float) -> None:
        """A prompt of `tokens` uncached tokens took `seconds` from being scheduled to its first token."""
        self._prefill.add(tokens, seconds)

    def began(self, prompt: int, computed: int, scheduled_s: float) -> None:
        """A sequence gets its first token in the step under way, of whose prompt `computed` tokens were not cached; the
        engine took it up at `scheduled_s`."""
        self._held += prompt
        self._computed += computed
        self._scheduled_s = min(scheduled_s, self._scheduled_s) if self._fresh else scheduled_s
        self._fresh += 1

    def ended(self, tokens: int) -> None:
        """A sequence gets its last token in the step under way, and holds so many with it."""
        self._ended_tokens += tokens
        self._alive -= 1

    def holds(self, tokens: int) -> None:
        """Counted anew: what was aborted is told by no step."""
        self._held = tokens

    def looked_up(self, tokens: int, hits: int) -> None:
        """`hits` of a prompt's `tokens` were in the prefix cache."""
        self._hits.add(hits, tokens)

    def load(self, unfinished: int) -> Load:
        """Now. `unfinished` is what the host knows of, sooner than the scheduler tells."""
        running = min(sum(self._running.values()), unfinished)
        if not unfinished:
            self._held = 0
        return Load(
            running=running,
            waiting=unfinished - running,
            kv_use=max(self._kv_use.values(), default=0.0) if unfinished else 0.0,
            prefix_hit=self._hits.value,
            prefill_tokens_per_s=self._prefill.value,
            time_per_output_token_s=1 / self._token_rate.value if self._token_rate.value else 0.0,
            context_tokens=self._held,
            # Steps of several engines overlap, and none says whose it is.
            sums=self._steps.sums() if len(self._running) < 2 else StepSums(),
        )
