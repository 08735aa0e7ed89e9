"""How far an engine's start is: its stage by vLLM's own log lines, the share of the whole and the time left by what an
earlier start of the same engine took. Callers pass the time. Knows no process and no file.

    importing vLLM -> waiting for its turn -> configuring -> starting the engine -> starting workers -> loading weights
        -> measuring memory -> compiling -> opening the API -> warming up -> (ready)

A start only goes forward, and may leave stages out.
"""

import re
from collections.abc import Mapping
from typing import Final

import msgspec

#: Each stage with the line that begins it, and its share of a start of which nothing is known: a guess.
_STAGES: Final = (
    ("importing vLLM", "", 25),
    ("waiting for its turn", r"headgate-host: INFO arguments are read", 0),
    ("configuring", r"headgate-host: INFO loading the engine|Resolved architecture: ", 5),
    ("starting the engine", r"Enabled custom fusions|AsyncLLM created", 15),
    ("starting workers", r"Initializing a V1 LLM engine", 15),
    ("loading weights", r"Starting to load model ", 25),
    ("measuring memory", r"Loading weights took|[Ll]oading model took|Model loading took", 3),
    ("compiling", r"KV cache size|Dynamo bytecode transform|Capturing CUDA graphs|Compiling a graph", 7),
    ("opening the API", r"init engine \(profile", 3),
    ("warming up", r"headgate-host: INFO warming up", 2),
)
_NAMES: Final = tuple(name for name, _, _ in _STAGES)
_GUESSED: Final = {name: float(share) for name, _, share in _STAGES}
_BEGIN: Final = re.compile("|".join(f"(?P<s{i}>{line})" for i, (_, line, _) in enumerate(_STAGES) if line))
#: vLLM's own bars; the last one on a line counts, as they are redrawn.
_SHARE: Final = {
    "loading weights": re.compile(r"checkpoint shards: +(\d{1,3})% Completed"),
    "compiling": re.compile(r"Capturing CUDA graphs[^\n\r]{0,200}?: +(\d{1,3})%"),
}
_LONGEST_LINE = 4_096


class StartProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a start is."""

    stage: str
    percent: int  #: of the whole start, 0 to 99; without an earlier start a guess
    elapsed_s: float
    left_s: float | None = None  #: None: no earlier start is known


class Stages:
    """One start. Times are seconds of any monotonic clock."""

    def __init__(self, now_s: float, earlier: Mapping[str, float]) -> None:
        """`earlier`: seconds that each stage took last time, by name; empty for a first start."""
        self._begun_s = self._stage_s = now_s
        self._earlier = {name: earlier[name] for name in _NAMES if earlier.get(name, 0.0) > 0}
        self._at = 0
        self._share = 0.0
        self._rest = ""
        self._took: dict[str, float] = {}

    @property
    def stage(self) -> str:
        return _NAMES[self._at]

    def read(self, text: str, now_s: float) -> None:
        """What was added to the log since the last time, in any pieces."""
        text = self._rest + text
        cut = max(text.rfind("\n"), text.rfind("\r")) + 1
        self._rest = text[cut:][-_LONGEST_LINE:]
        for found in _BEGIN.finditer(text, 0, cut):
            assert found.lastgroup is not None
            self._enter(int(found.lastgroup[1:]), now_s)
        shares = _SHARE.get(self.stage)
        told = shares.findall(text) if shares is not None else []
        if told:
            self._share = max(self._share, min(int(told[-1]), 100) / 100)

    def progress(self, now_s: float) -> StartProgress:
        expected = self._earlier or _GUESSED
        in_stage_s, stage_s = now_s - self._stage_s, expected.get(self.stage, 0.0)
        done = sum(expected.get(name, 0.0) for name in _NAMES[: self._at])
        if self._earlier:  # a stage that takes longer than it did is taken to be at its end
            done += min(max(in_stage_s, self._share * stage_s), stage_s)
        else:
            done += self._share * stage_s
        whole = sum(expected.values())
        return StartProgress(
            stage=self.stage,
            percent=min(99, int(100 * done / whole)),
            elapsed_s=round(now_s - self._begun_s, 1),
            left_s=round(whole - done, 1) if self._earlier else None,
        )

    def ended(self, now_s: float) -> dict[str, float]:
        """Seconds of each stage of a start that came to its end; empty where vLLM's lines were not seen."""
        if self._at == 0:
            return {}
        return {**self._took, self.stage: now_s - self._stage_s}

    def _enter(self, at: int, now_s: float) -> None:
        if at > self._at:
            self._took[self.stage] = now_s - self._stage_s
            self._at, self._stage_s, self._share = at, now_s, 0.0
