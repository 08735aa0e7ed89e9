"""How loaded a member is and how fast it works: load frames, plus what was submitted since the last one, plus rates
learnt from finished answers. Knows no clock and no connection.
"""

from router.config import Member, argument_name
from router.ipc.messages import Load
from router.types import MemberState, Timings, Usage

#: Weight of the newest answer in a moving average: about the last twenty count.
_NEW = 0.05
#: A first token that came sooner says more of timer resolution and cached prompts than of prefill speed.
_LEAST_PREFILL_S = 1e-4

_NO_LOAD = Load()


class LoadTracker:
    """One member's load. Tokens, seconds, USD; the snapshot is made anew only after something changed."""

    __slots__ = (
        "_fresh_tokens",
        "_fresh_waiting",
        "_load",
        "_mean_output_tokens",
        "_mean_prompt_tokens",
        "_member",
        "_prefill_tokens_per_s",
        "_reported",
        "_time_per_output_token_s",
        "_ttft_s",
        "_usd_per_s",
        "capabilities",
        "context_tokens",
        "current",
        "in_flight",
    )

    def __init__(self, member: Member, gpu_share: float) -> None:
        self._member = member
        self._usd_per_s = member.usd_per_hour / 3600.0 * gpu_share
        self._load = _NO_LOAD
        self._reported = False
        self._fresh_waiting = 0  # submitted since the last load frame
        self._fresh_tokens = 0
        self._mean_prompt_tokens = 0.0
        self._mean_output_tokens = member.mean_output_tokens
        self._prefill_tokens_per_s = 0.0
        self._time_per_output_token_s = 0.0
        self._ttft_s = 0.0
        self.current: MemberState | None = None  #: the last `state`; None once something changed
        self.in_flight = 0
        self.context_tokens = member.context_tokens
        self.capabilities: frozenset[str] = frozenset(member.capabilities or ())

    def described(self, capabilities: frozenset[str], context_tokens: int) -> None:
        """The engine said what it can do."""
        self.capabilities = capabilities
        self.context_tokens = context_tokens
        self.current = None

    def forget(self) -> None:
        """The engine is gone: its queue with it. Rates stay: its successor is the same model on the same GPU."""
        self._load = _NO_LOAD
        self._reported = False
        self._fresh_waiting = self._fresh_tokens = 0
        self.current = None

    def reported(self, load: Load) -> None:
        self._load = load
        self._reported = True
        self._fresh_waiting = self._fresh_tokens = 0
        self.current = None

    def submitted(self, prompt_tokens: int) -> None:
        self.in_flight += 1
        self._fresh_waiting += 1
        self._fresh_tokens += prompt_tokens
        mean = self._mean_prompt_tokens or prompt_tokens
        self._mean_prompt_tokens = mean + _NEW * (prompt_tokens - mean)
        self.current = None

    def ended(self) -> None:
        """A request finished, failed or was aborted."""
        self.in_flight -= 1
        self.current = None

    def answered(self, usage: Usage, timings: Timings) -> None:
        """Learn from a finished answer. Zeroes mean unknown."""
        if usage.completion_tokens:
            self._mean_output_tokens = _average(self._mean_output_tokens, usage.completion_tokens)
        if timings.first_token_s > _LEAST_PREFILL_S:
            self._ttft_s = _average(self._ttft_s, timings.first_token_s)
            uncached = usage.prompt_tokens - usage.cached_tokens
            if uncached > 0:
                self._prefill_tokens_per_s = _average(self._prefill_tokens_per_s, uncached / timings.first_token_s)
        decoding_s = timings.total_s - timings.first_token_s
        if usage.completion_tokens > 1 and timings.first_token_s > 0.0 and decoding_s > 0.0:
            per_token = decoding_s / (usage.completion_tokens - 1)
            self._time_per_output_token_s = _average(self._time_per_output_token_s, per_token)

    def state(self, *, ready: bool, breaker_open: bool) -> MemberState:
        """The member as a decision sees it."""
        state = self.current
        if state is None or state.ready is not ready or state.breaker_open is not breaker_open:
            state = self.current = self._snapshot(ready, breaker_open)
        return state

    def _snapshot(self, ready: bool, breaker_open: bool) -> MemberState:
        load, member = self._load, self._member
        prefill = member.prefill_tokens_per_s or load.prefill_tokens_per_s or self._prefill_tokens_per_s
        per_token = member.time_per_output_token_s or load.time_per_output_token_s or self._time_per_output_token_s
        return MemberState(
            name=member.name,
            ready=ready,
            breaker_open=breaker_open,
            context_tokens=self.context_tokens,
            capabilities=self.capabilities,
            running=load.running if self._reported else self.in_flight,
            # Between two load frames a fast engine answers more than it can ever have had waiting.
            waiting=load.waiting + min(self._fresh_waiting, self.in_flight) if self._reported else 0,
            kv_use=load.kv_use,
            prefix_hit=load.prefix_hit,
            prefill_tokens_per_s=prefill,
            time_per_output_token_s=per_token,
            mean_output_tokens=self._mean_output_tokens,
            queued_gpu_s=self._queued_s(prefill, per_token),
            usd_per_s=self._usd_per_s,
        )

    def _queued_s(self, prefill_tokens_per_s: float, per_token_s: float) -> float:
        """Seconds until what waits ahead has been read: its prefill, and the slots that must first become free."""
        load = self._load
        if not self._reported:
            # No engine tells its queue: what first tokens lately took beyond their own prefill was waiting.
            own_s = self._mean_prompt_tokens / prefill_tokens_per_s if prefill_tokens_per_s else 0.0
            return max(0.0, self._ttft_s - own_s)
        prefill_s = 0.0
        if prefill_tokens_per_s:
            fresh_share = min(1.0, self.in_flight / self._fresh_waiting) if self._fresh_waiting else 0.0
            tokens = load.waiting * self._mean_prompt_tokens + fresh_share * self._fresh_tokens
            prefill_s = tokens * (1.0 - load.prefix_hit) / prefill_tokens_per_s
        if not load.waiting:
            return prefill_s
        # A request waits in vLLM only when slots or KV blocks are used up; one frees as an answer of the batch ends.
        slot_s = self._mean_output_tokens * per_token_s / max(load.running, 1)
        return prefill_s + load.waiting * slot_s


def _average(average: float, value: float) -> float:
    return value if average == 0.0 else average + _NEW * (value - average)


def gpu_shares(pool: tuple[Member, ...]) -> tuple[float, ...]:
    """The share of the GPU that each member is charged for: as configured, else the memory it takes, else 1/n.

    An `openai` member without a share is charged the whole: it has a machine of its own.
    """
    engines = sum(member.kind == "engine" for member in pool)
    return tuple(_gpu_share(member, engines) for member in pool)


def _gpu_share(member: Member, engines: int) -> float:
    if member.gpu_share is not None:
        return member.gpu_share
    if member.kind == "openai":
        return 1.0
    for name, value in member.engine_args.items():
        if argument_name(name) == "gpu_memory_utilization" and isinstance(value, int | float) and 0 < value <= 1:
            return float(value)
    return 1.0 / max(engines, 1)
