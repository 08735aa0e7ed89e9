"""The differences from vLLM's server that are meant. The table in docs/compatibility.md has a line for each."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.e2e.paired.cases import ABSENT, Case
from tests.e2e.paired.comparing import Difference


@dataclass(frozen=True)
class Allowed:
    name: str
    covers: Callable[[Case, Difference], bool]


def _error_types(case: Case, found: Difference) -> bool:
    return found.path.endswith("error.type") and isinstance(found.ours, str)


def _error_words(case: Case, found: Difference) -> bool:
    return found.path == "body.error.message" and bool(found.ours)


def _error_codes(case: Case, found: Difference) -> bool:
    """A word in place of the status as a number."""
    return found.path == "body.error.code" and isinstance(found.theirs, int) and isinstance(found.ours, str)


def _error_params(case: Case, found: Difference) -> bool:
    """The field as the client sent it; none where the body as a whole is at fault."""
    if found.path != "body.error.param" or found.ours is ABSENT:
        return False
    return isinstance(found.ours, str) or re.fullmatch(r"body(\.\d+)?", str(found.theirs)) is not None


def _anthropic_errors(case: Case, found: Difference) -> bool:
    if not case.path.startswith("/v1/messages"):
        return False
    return (found.path, found.theirs, found.ours) == ("body.type", ABSENT, "error") or (
        found.path in ("body.error.param", "body.error.code") and found.ours is ABSENT
    )


def _refused_streams(case: Case, found: Difference) -> bool:
    """vLLM begins the stream before its engine has seen the request, and has to break it off."""
    if b'"stream": true' not in (case.body or b"") or case.holds.get("status") != 400:
        return False
    return (found.path, found.theirs, found.ours) == ("status", 200, 400) or found.path in (
        "headers.content-type", "body.events", "body.names", "body.done", "body.error",
    )  # fmt: skip


def _unknown_routes(case: Case, found: Difference) -> bool:
    """OpenAI's shape of errors where vLLM has FastAPI's."""
    return case.holds.get("status") in (400, 404, 405) and (
        (found.path, found.ours) == ("body.detail", ABSENT) or (found.path, found.theirs) == ("body.error", ABSENT)
    )


def _allow(case: Case, found: Difference) -> bool:
    if found.path != "headers.allow" or found.ours is ABSENT:
        return case.method == "HEAD" and found.path in ("headers.allow", "headers.content-type")
    return set(found.theirs.split(", ")) < set(found.ours.split(", "))


def _probes(case: Case, found: Difference) -> bool:
    return case.path in ("/health", "/ping") and found.path in ("body", "headers.content-type") and found.theirs in (
        "", ABSENT
    )  # fmt: skip


def _models(case: Case, found: Difference) -> bool:
    return case.path == "/v1/models" and found.path == "body.data.0.owned_by"


def _one_model(case: Case, found: Difference) -> bool:
    return case.path.startswith("/v1/models/")


def _head(case: Case, found: Difference) -> bool:
    return case.method == "HEAD" and (found.path, found.theirs, found.ours) == ("status", 405, 200)


def _version(case: Case, found: Difference) -> bool:
    return case.path == "/version" and found.path == "body.headgate"


def _pages(case: Case, found: Difference) -> bool:
    return case.path in ("/openapi.json", "/docs", "/metrics") and found.path.startswith(("body", "headers.content"))


def _no_model(case: Case, found: Difference) -> bool:
    return case.name == "/v1/messages no model"


def _other_models(case: Case, found: Difference) -> bool:
    return case.name.endswith(" of a chat model")


def _invocations(case: Case, found: Difference) -> bool:
    return case.path == "/invocations" and found.path == "body.error.param" and found.ours is None


ALLOWED = [
    Allowed("type of an error", _error_types),
    Allowed("words of an error", _error_words),
    Allowed("code of an error", _error_codes),
    Allowed("param of an error", _error_params),
    Allowed("errors of Anthropic's routes", _anthropic_errors),
    Allowed("a stream that the engine refuses", _refused_streams),
    Allowed("errors of the web framework", _unknown_routes),
    Allowed("allow", _allow),
    Allowed("body of a probe", _probes),
    Allowed("list of models", _models),
    Allowed("one model", _one_model),
    Allowed("HEAD", _head),
    Allowed("version", _version),
    Allowed("metrics, OpenAPI, docs", _pages),
    Allowed("no model", _no_model),
    Allowed("routes of other models", _other_models),
    Allowed("an invocation of no kind", _invocations),
]


def rule_of(case: Case, found: Difference) -> Allowed | None:
    return next((rule for rule in ALLOWED if rule.covers(case, found)), None)
