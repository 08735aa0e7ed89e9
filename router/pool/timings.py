"""What the stages of earlier starts took, by engine, in a file of the user's cache folder.

It is a hint: a file that cannot be read or written, or says nonsense, counts as none.
"""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from router.files import replaced
from router.ipc.spec import HostSpec

log = logging.getLogger("headgate.pool")

_FILE = "starts.json"
_MOST_ENGINES = 200
_MOST_BYTES = 1 << 20
_MOST_S = 86_400.0


class Timings:
    """`folder`: None keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / _FILE

    def of(self, key: str) -> dict[str, float]:
        """Seconds by stage; empty where nothing is known."""
        return self._read().get(key, {})

    def keep(self, key: str, seconds: Mapping[str, float]) -> None:
        """In the place of what was known of `key`; beyond 200 engines the oldest are forgotten."""
        if self._path is None or not seconds:
            return
        known = self._read()
        known.pop(key, None)
        known[key] = {stage: round(took_s, 2) for stage, took_s in seconds.items()}
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replaced(self._path, 0o600) as file:
                file.write(msgspec.json.encode(dict(list(known.items())[-_MOST_ENGINES:])))
        except OSError as error:
            log.debug("%s: the timings of this start could not be kept: %s", self._path, error)

    def _read(self) -> dict[str, dict[str, float]]:
        if self._path is None:
            return {}
        try:
            with self._path.open("rb") as file:
                found = msgspec.json.decode(file.read(_MOST_BYTES), type=dict[str, dict[str, float]])
        except (OSError, ValueError) as error:  # msgspec's errors are such
            log.debug("%s: no earlier timings: %s", self._path, error)
            return {}
        return {key: took for key, took in found.items() if all(0 <= s <= _MOST_S for s in took.values())}


def key_of(spec: HostSpec) -> str:
    """One engine whatever its name and socket: its model and arguments decide how long it takes."""
    about = msgspec.json.encode((spec.model, spec.engine_args), order="sorted")
    return hashlib.sha256(about).hexdigest()[:32]
