"""What a host is sent of a request: only what its Hello says that it knows. Another frame would cost us its connection,
another field would be read by nobody.
"""

from router.errors import NoEngine, OlderHost
from router.ipc.messages import Hello, Submit
from router.pool.base import Work

#: Of requests, those that every host of protocol 2 knows.
_FIRST_KINDS = frozenset({"chat", "completions", "responses", "messages", "count_tokens", "tokenize", "detokenize"})


def submit_of(work: Work, id: int, verbs: tuple[str, ...]) -> Submit:
    """`verbs`: of the host. One that cannot watch does without: the watch is no part of the answer."""
    return Submit(
        id=id,
        kind=work.kind,
        body=work.body,
        request_id=work.request_id,
        deadline_s=work.deadline_s,
        traceparent=work.traceparent,
        adapter=work.adapter,
        priority=work.priority,
        watch=work.watch if "watch" in verbs else b"",
        continue_text=work.continue_text,
        continued=work.continued,
        warm=work.warm,
    )


def check_known(work: Work, hello: Hello | None, name: str) -> None:
    """Raises `OlderHost` where the host called `name` does not know this kind of request, or `NoEngine` where it cannot
    go on with another engine's answer or only read a prompt."""
    verbs = () if hello is None else hello.verbs
    if work.kind not in _FIRST_KINDS and (hello is None or work.kind not in verbs + hello.capabilities):
        raise OlderHost(f"the host of {name!r} is of a release that does not know this: restart it")
    if work.continue_text or work.continued is not None:
        check_able(verbs, "continue", f"{name!r} cannot go on with an answer that another engine began")
    if work.warm:
        check_able(verbs, "warm", f"{name!r} cannot only read a prompt")


def check_able(verbs: tuple[str, ...], verb: str, why: str) -> None:
    """Raises `NoEngine` because of `why`."""
    if verb not in verbs:
        raise NoEngine(why)
