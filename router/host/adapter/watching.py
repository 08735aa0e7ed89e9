"""The watch on the fast way: which requests are watched, and what is told of them at their end."""

from router.host.base import AnswerSink, ErrorAnswer
from router.host.fields import Body
from router.host.watch.requests import Watch, Watches
from router.ipc.messages import Handoff, Submit
from router.types import Usage
from router.watched import Figures


def begin(watches: Watches | None, submit: Submit, fields: Body, spent: int) -> Watch | None:
    """None: it is not watched. `spent`: tokens of the answer that other engines made, which count for `min_tokens`."""
    if not submit.watch or watches is None:
        return None
    return watches.begin(
        submit.watch,
        n=fields.n or 1,
        min_tokens=max(0, fields.min_tokens - spent),
        ignore_eos=fields.ignore_eos,
        keeps_stop=fields.include_stop_str_in_output,
        stop_token_ids=fields.stop_token_ids or (),
    )


def watched(answer: AnswerSink, watch: Watch | None) -> AnswerSink:
    """Who hears the end of an answer with its figures, where it is watched."""
    return answer if watch is None else WatchedAnswer(answer, watch)


def free(watch: Watch | None, left_out: str = "") -> None:
    """Give a watch's slot up. `left_out`: why the answer goes on without."""
    if watch is not None and left_out:
        watch.give_up(left_out)
    elif watch is not None:
        watch.release()


class WatchedAnswer:
    """Who hears an answer that is watched: its figures go with its end, and then its slot is free."""

    __slots__ = ("_answer", "_watch", "begun", "chunk", "untimed")

    def __init__(self, answer: AnswerSink, watch: Watch) -> None:
        self._answer = answer
        self._watch = watch
        self.begun, self.chunk, self.untimed = answer.begun, answer.chunk, answer.untimed

    def done(self, usage: Usage, finish_reason: str, figures: Figures | None = None, first_logits: bytes = b"") -> None:
        watch, tokens = self._watch, usage.completion_tokens
        self._answer.done(usage, finish_reason, watch.figures(tokens), watch.first_logits(tokens))
        watch.release()

    def handoff(self, handed: Handoff) -> None:
        self._answer.handoff(handed)
        self._watch.release()

    def fail(self, failure: ErrorAnswer) -> None:
        self._answer.fail(failure)
        self._watch.release()
