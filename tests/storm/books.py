"""Whether three accounts of the same requests agree: what clients saw, the ledger's records, the metrics' counts."""

from collections import Counter
from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

from router.errors import (
    BadRequest,
    ContentTooLarge,
    DeadlineExceeded,
    ModelNotFound,
    NoEngine,
    Overloaded,
    RequestTimeout,
    Unauthorized,
)
from router.observe.record import Record
from router.types import API_PATHS
from tests.storm.clients import Seen
from tests.storm.plan import number_of

_REFUSALS = (
    BadRequest, Unauthorized, ModelNotFound, RequestTimeout, ContentTooLarge, Overloaded, NoEngine, DeadlineExceeded,
)  # fmt: skip
_TYPES = {each.status: each.type for each in _REFUSALS}
#: What may befall any request before it is accepted: engines away, a bound met, its deadline over, a slow machine.
_ANY_REFUSAL = frozenset({408, 429, 503, 504})
#: Routes that no client of a storm asks for.
_OF_OPERATORS = ("/metrics", "/members")
_SCRIPTED_USAGE = (10, 5, 2)

Sample = tuple[str, ...]


class Scrape:
    """The counts of one page of metrics."""

    def __init__(self, page: str) -> None:
        self._samples = [each for family in text_string_to_metric_families(page) for each in family.samples]

    def by(self, name: str, *labels: str) -> Counter[Sample]:
        """Sums of `headgate_NAME` by these labels, without zeros."""
        sums: Counter[Sample] = Counter()
        for each in self._samples:
            if each.name == f"headgate_{name}":
                sums[tuple(each.labels[label] for label in labels)] += int(each.value)
        return +sums


def number(record: Record) -> int:
    return number_of(record.request_id, record.session_id, record.asked)


def check(seen: Sequence[Seen], records: Sequence[Record], scrape: Scrape | None, *, ended: bool = False) -> None:
    """Raises `AssertionError` saying which accounts differ on what. `scrape` is of after the last record; None where
    nobody can be asked any more. `ended`: the server was, with requests under way."""
    told = Counter(number(record) for record in records)
    twice = [number for number, times in told.items() if times > 1]
    assert not twice, f"more than one record: {[r for r in records if number(r) in twice]}"
    ids = Counter(record.id for record in records if record.id)
    assert not ids or max(ids.values()) == 1, f"one decision id for two requests: {ids.most_common(2)}"
    by_number = {number(record): record for record in records}
    for each in seen:
        _agree(each, by_number.pop(each.ask.number, None), ended=ended)
    assert not by_number, f"records of requests that nobody made: {list(by_number.values())}"
    if scrape is not None:
        _count(seen, records, scrape)


def _agree(seen: Seen, record: Record | None, *, ended: bool) -> None:
    """What a client saw, and the record of its request."""
    ask, both = seen.ask, f"the client saw {seen}; the ledger has {record}"
    if record is None:
        assert seen.how != "answer", both
        assert seen.how != "error event", both
        if seen.how == "error":
            assert not seen.decision_id, both
            assert seen.status in _ANY_REFUSAL | {ask.refused}, both
        return
    assert not ask.refused, both
    assert ask.leave not in ("head", "body"), both
    assert seen.how != "unsent", both
    assert (record.kind, record.stream) == (ask.kind, ask.stream), both
    assert record.model in (seen.model or record.model, ""), both
    assert record.id == (seen.decision_id or record.id), both
    if seen.how == "answer":
        assert (record.end, record.status, record.error) == ("finish", 200, ""), both
    elif seen.how == "error":
        assert (record.end, record.status, record.streamed and record.stream) == ("error", seen.status, False), both
    elif seen.how == "error event":
        assert (record.end, record.streamed) == ("error", True), both
    elif seen.how == "closed":
        # Where the server ends between the two, the record was written and the last bytes did not leave.
        assert ended or record.end != "finish" or seen.ask.slow, both
    if record.end == "finish":
        usage = (record.prompt_tokens, record.completion_tokens, record.cached_tokens)
        assert usage in (_SCRIPTED_USAGE, (0, 0, 0)), both
    assert (record.error == "") == (record.end == "finish"), both
    assert (record.status == 499) == (record.end == "cancel"), both
    legs = record.legs
    assert [leg.retried for leg in legs] in ([], [False], [True, False]), both
    assert not legs or legs[-1].end == record.end, both


def _count(seen: Sequence[Seen], records: Sequence[Record], scrape: Scrape) -> None:
    accepted = {number(record) for record in records}
    refused = [
        each for each in seen if each.how == "error" and not each.ask.library and each.ask.number not in accepted
    ]
    # A refusal that its client did not wait for is counted and not seen.
    unread = [each for each in seen if each.how in ("left", "closed") and each.ask.number not in accepted]
    requests = scrape.by("requests_total", "route", "status")
    for asked in [each for each in requests if each[0] in _OF_OPERATORS]:
        del requests[asked]
    requests -= _wanted("requests_total", requests, Counter((API_PATHS[r.kind], str(r.status)) for r in records))
    requests -= _wanted("requests_total", requests, Counter((each.ask.path, str(each.status)) for each in refused))
    errors = scrape.by("errors_total", "type")
    slow = errors.pop(("slow_client",), 0)
    assert slow <= sum(each.ask.slow for each in seen), f"{slow} clients are said to be slow"
    errors -= _wanted("errors_total", errors, Counter((r.error,) for r in records if r.error))
    errors -= _wanted("errors_total", errors, Counter((_TYPES[each.status],) for each in refused))
    assert requests.total() == errors.total() <= len(unread), (
        f"counted, and in no record nor seen by a client: {requests}, {errors}; at most {len(unread)} can be"
    )
    tokens = scrape.by("tokens_total", "type")
    assert tokens == +Counter({
        ("prompt",): sum(r.prompt_tokens for r in records),
        ("completion",): sum(r.completion_tokens for r in records),
        ("cached",): sum(r.cached_tokens for r in records),
    }), f"tokens_total says {tokens}"  # fmt: skip
    refusals = scrape.by("refusals_total", "reason")
    late = sum(record.error == "rate_limit_error" for record in records)
    # One whose large body is still being read then is refused, and was never accepted.
    reading = sum(each.ask.large and each.ask.number not in accepted for each in seen)
    waited = refusals["queue_time",] + refusals["displaced",]
    assert late <= waited <= late + reading, f"{late} records, {reading} large bodies: {refusals}"
    retries = sum(leg.retried for record in records for leg in record.legs)
    assert scrape.by("decisions_total", "reason")["retry",] == retries, f"{retries} legs were retried"


def _wanted(name: str, counted: Counter[Sample], wanted: Counter[Sample]) -> Counter[Sample]:
    missing = wanted - counted
    assert not missing, f"{name} lacks {missing}: it says {counted}, wanted are {wanted}"
    return wanted


def nothing_left(scrape: Scrape, connections: int = 0) -> bool:
    """The gauges of what is under way; `connections` of those who ask are open."""
    gauges = ("queue_length", "requests_in_flight", "member_in_flight")
    return not any(scrape.by(name) for name in gauges) and scrape.by("connections").total() == connections
