"""Files and batches as OpenAI's API shows them, and as they are kept on disk with what is not shown."""

import re
import secrets
from typing import Final, Literal

import msgspec

Purpose = Literal["batch", "batch_output"]
Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]  # fmt: skip
#: How a batch may end.
Ending = Literal["failed", "completed", "expired", "cancelled"]

#: States that nothing follows.
OVER: Final[frozenset[str]] = frozenset({"failed", "completed", "expired", "cancelled"})
#: Of a batch's own list of errors; all stand in its error file.
MOST_ERRORS_SHOWN: Final = 100

_FILE_ID = re.compile(r"file-[0-9a-f]{24}")
_BATCH_ID = re.compile(r"batch_[0-9a-f]{24}")
_RESULT_ID = re.compile(rb"batch_req_[0-9a-f]{24}([0-9a-f]{8,})")


class File(msgspec.Struct, frozen=True, kw_only=True, tag_field="object", tag="file"):
    """Times are Unix seconds."""

    id: str
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"
    status_details: None = None


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    file: File
    owner: str  #: id of the API key; empty where none is asked for


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of a batch; blank ones are none. `failed`: those in the error file."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a line, or with a batch as a whole."""

    code: str
    message: str
    line: int | None = None  #: counted from 1
    param: str | None = None


class Faults(msgspec.Struct, frozen=True, kw_only=True, tag_field="object", tag="list"):
    data: tuple[Fault, ...]


class InputDetails(msgspec.Struct, frozen=True):
    cached_tokens: int = 0


class OutputDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of all answers of a batch."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Batch(msgspec.Struct, frozen=True, kw_only=True, tag_field="object", tag="batch"):
    id: str
    endpoint: str
    errors: Faults | None = None
    input_file_id: str
    completion_window: str
    status: Status = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts = Counts()
    metadata: dict[str, str] | None = None
    model: str | None = None  #: where all lines name the same one
    usage: Usage | None = None  #: of all answers, once no line runs any more


class StoredBatch(msgspec.Struct, frozen=True, kw_only=True):
    batch: Batch
    owner: str
    output_id: str  #: the id that the results' file will have, and that of the errors
    error_id: str
    results_s: float | None = None  #: how long these are kept; None: as the config says
    ending: Ending | None = None  #: what it comes to, once its files are in order


def new_file_id() -> str:
    return f"file-{secrets.token_hex(12)}"


def new_batch_id() -> str:
    return f"batch_{secrets.token_hex(12)}"


def is_file_id(text: str) -> bool:
    return _FILE_ID.fullmatch(text) is not None


def is_batch_id(text: str) -> bool:
    return _BATCH_ID.fullmatch(text) is not None


def result_id(batch_id: str, line: int) -> str:
    """That of a line's result: it says which line was answered, by which a batch is resumed."""
    return f"batch_req_{batch_id.removeprefix('batch_')}{line:08x}"


def line_of(id: bytes) -> int | None:
    """The line that a result's id stands for; None: it is none."""
    match = _RESULT_ID.fullmatch(id)
    return int(match[1], 16) if match else None


def at_end(batch: Batch, ending: Ending, now: int) -> Batch:
    """`batch`, over."""
    return msgspec.structs.replace(batch, status=ending, **{f"{ending}_at": now})
