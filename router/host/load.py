"""The engine's load as moving averages of the statistics that vLLM logs after each step. Callers pass the time."""

from router.ipc.messages import Load

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

    def scheduled(self, engine: int, running: int, waiting: int, kv_use: float) -> None:
        """The scheduler's state after a step of `engine`."""
        self._running[engine] = running
        self._waiting[engine] = waiting
        self._kv_use[engine] = kv_use

    def stepped(self, now: float, streams: int, tokens: int) -> None:
        """A step gave `tokens` to `streams` requests. Steps after an idle engine say nothing of its pace."""
        if self._last_step is not None and tokens and any(self._running.values()):
            step_s = now - self._last_step
            self._token_rate.add(tokens, step_s * streams)
        self._last_step = now

    def prefilled(self, tokens: int, seconds: float) -> None:
        """A prompt of `tokens` uncached tokens took `seconds` from being scheduled to its first token."""
        self._prefill.add(tokens, seconds)

    def looked_up(self, tokens: int, hits: int) -> None:
        """`hits` of a prompt's `tokens` were in the prefix cache."""
        self._hits.add(hits, tokens)

    def load(self, unfinished: int) -> Load:
        """Now. `unfinished` is what the host knows of, sooner than the scheduler tells."""
        running = min(sum(self._running.values()), unfinished)
        return Load(
            running=running,
            waiting=unfinished - running,
            kv_use=max(self._kv_use.values(), default=0.0) if unfinished else 0.0,
            prefix_hit=self._hits.value,
            prefill_tokens_per_s=self._prefill.value,
            time_per_output_token_s=1 / self._token_rate.value if self._token_rate.value else 0.0,
        )
