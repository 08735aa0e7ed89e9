"""Answers that several engines write, of which the client sees one: what it has of it when this engine begins its
segment, and the events and figures that make the parts one.

Knows what the fast way writes (`sse`), not where text comes from.

    sent before | unsent |  this engine's own text      one id, one `created`, one role, one `[DONE]`
    -----------text------|
"""

from typing import Literal

import msgspec

from router.host.sse import EventWriter, Head
from router.ipc.messages import Handoff, Submit
from router.types import Usage
from router.watched import Continued

_encode = msgspec.json.encode
_DATA = b"data: {"


class Segment(msgspec.Struct, frozen=True):
    """This engine's part of an answer. `text`: what others made of it before; `before`: what the client knows of it."""

    text: str = ""
    before: Continued = Continued()

    @classmethod
    def of(cls, submit: Submit) -> "Segment | None":
        """None: an answer of one engine, from its first token to its last."""
        if submit.continued is None and not submit.watch:
            return None
        before = submit.continued or Continued()
        return cls(submit.continue_text if submit.continued is not None else "", before)

    @property
    def sent(self) -> int:
        """Characters of `text` that the client has."""
        return max(0, min(self.before.sent, len(self.text)))

    @property
    def unsent(self) -> str:
        return self.text[self.sent :]

    def head(self, own: Head) -> Head:
        """`own`, or what the client was told first."""
        before = self.before
        return msgspec.structs.replace(
            own,
            id=before.id or own.id,
            created=before.created or own.created,
            model=before.model or own.model,
        )

    def usage(self, own: Usage, prompt_tokens: int) -> Usage:
        """What the client is told: one prompt, all tokens. `own` counts `text` as prompt; `prompt_tokens`: the prompt
        alone, as this engine counts it."""
        completion_tokens = self.before.completion_tokens + own.completion_tokens
        if self.before.prompt_tokens:
            return Usage(self.before.prompt_tokens, completion_tokens, self.before.cached_tokens)
        return Usage(prompt_tokens, completion_tokens, min(own.cached_tokens, prompt_tokens))

    def wrote(self, model: str, tokens: int) -> bytes:
        """`,"headgate":{model: tokens, ...}` for the usage, where several models wrote; else empty."""
        sums: dict[str, int] = {}
        for name, count in (*self.before.wrote, (model, tokens)):
            if count > 0:
                sums[name] = sums.get(name, 0) + count
        return b',"headgate":%b' % _encode(sums) if len(sums) > 1 else b""

    def handed_on(
        self, head: Head, model: str, own: Usage, prompt_tokens: int, *, opened: bool, text: str, sent: int, look: str
    ) -> Handoff:
        """What another engine needs that goes on. `own`, `prompt_tokens`: see `usage`; `text`: of the whole answer, of
        which the client was `sent` characters."""
        usage = self.usage(own, prompt_tokens)
        continued = Continued(
            id=head.id,
            created=head.created,
            opened=opened or self.before.opened,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            sent=sent,
            look=look,
            model=head.model,
            wrote=(*self.before.wrote, (model, own.completion_tokens)),
            told=self.before.told,
        )
        return Handoff(id=0, text=text, tokens=own.completion_tokens, why="", usage=own, continued=continued)


def goes_on(submit: Submit) -> bool:
    """Whether the client is to see one answer of this engine's part and what came before."""
    before = submit.continued
    return before is not None and bool(submit.continue_text or before.id or before.opened)


class SegmentWriter(EventWriter):
    """Events of a stream that began elsewhere, or may be handed on: keeps its text, and leaves out what was told."""

    __slots__ = ("_before", "_kept", "_marks", "_model", "_prompt_alone", "_segment", "_unsent")

    def __init__(
        self,
        head: Head,
        segment: Segment,
        *,
        model: str,
        prompt_tokens: int,
        closing_usage: bool = False,
        continuous_usage: bool = False,
    ) -> None:
        """`model`: whose segment it is. `prompt_tokens`: of the prompt alone, as this engine counts them."""
        told = segment.usage(Usage(prompt_tokens, 0), prompt_tokens)
        super().__init__(
            head,
            prompt_tokens=told.prompt_tokens,
            closing_usage=closing_usage,
            continuous_usage=continuous_usage,
        )
        self._segment = segment
        self._model = model
        self._prompt_alone = prompt_tokens
        self._kept = [segment.text[: segment.sent]]
        self._unsent = len(segment.unsent)
        #: Whose the next events are, where the client wants to know: of what is still unsent, and this engine's own.
        self._marks = ["", ""]
        if segment.before.told:
            self._marks = [segment.before.wrote[-1][0] if self._unsent and segment.before.wrote else "", model]

    @property
    def sent(self) -> str:
        """All text of the answer that the client has, be it from here or from before."""
        if len(self._kept) > 1:
            self._kept = ["".join(self._kept)]
        return self._kept[0]

    def role(self, index: int) -> bytes:
        if self._segment.before.opened:
            return b""
        event = super().role(index)
        return self._mark(event, 0 if self._unsent else 1) if event else event

    def text(self, index: int, text: str, tokens: int) -> bytes:
        self._kept.append(text)
        total = self._segment.before.completion_tokens + tokens
        if not any(self._marks):
            return super().text(index, text, total)
        earlier, text = self._earlier(index, text)
        if earlier and not text:
            return earlier
        event = super().text(index, text, total)
        return earlier + (event if self._unsent else self._mark(event, 1))

    def finish(self, index: int, text: str, tokens: int, reason: str, stop_reason: int | str | None) -> bytes:
        self._kept.append(text)
        total = self._segment.before.completion_tokens + tokens
        earlier = b""
        if any(self._marks):
            earlier, text = self._earlier(index, text)
        event = super().finish(index, text, total, reason, stop_reason)
        return earlier + self._mark(event, 1) if tokens else earlier + event

    def usage(self, usage: Usage, created: int = 0, more: bytes = b"") -> bytes:
        """`usage`: of this engine alone."""
        segment = self._segment
        wrote = segment.wrote(self._model, usage.completion_tokens)
        return super().usage(segment.usage(usage, self._prompt_alone), created, more + wrote)

    def _earlier(self, index: int, text: str) -> tuple[bytes, str]:
        """The event of what other engines had made and the client was not sent, and what is left of `text`."""
        size = min(self._unsent, len(text))
        if not size:
            return b"", text
        self._unsent -= size
        event = super().text(index, text[:size], self._segment.before.completion_tokens)
        return self._mark(event, 0), text[size:]

    def _mark(self, event: bytes, which: Literal[0, 1]) -> bytes:
        """`event`, saying whose segment begins with it, where that was not said yet."""
        name, self._marks[which] = self._marks[which], ""
        if not name:
            return event
        return b'%b"headgate":{"model":%b},%b' % (_DATA, _encode(name), event[len(_DATA) :])
