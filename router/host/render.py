"""Renders a conversation to a prompt and to token ids, with the model's own chat template and tokenizer.

The caller passes the tokenizer; this module imports neither transformers nor vLLM.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol

from msgspec import UNSET

from router.host.fields import Body, ChatBody, ChatMessage
from router.host.limits import NO_BOUNDS, Bounds
from router.host.seam import Behind
from router.ipc.messages import Submit

ContentFormat = Literal["string", "openai"]

#: Template variables that mean something to the renderer itself: requests that set them take the slow way.
RESERVED = frozenset(
    {"add_generation_prompt", "chat_template", "continue_final_message", "conversation", "documents", "messages"}
    | {"padding", "return_dict", "return_tensors", "tokenize", "tools", "truncation", "max_length", "reasoning_effort"}
)

#: Longer conversations are rendered in a thread, so that other streams do not wait for them.
_INLINE_CHARACTERS = 16_000
#: What a message costs a template beside its text, in characters.
_MESSAGE_CHARACTERS = 32

#: vLLM drops this line of one client's system prompts; such requests take the slow way.
_BILLING_HEADER = "x-anthropic-billing-header"


class Template(Protocol):
    """A model's chat template: the conversation as it stands before the model's answer.

    Raises whatever the template raises when it refuses the conversation.
    """

    def __call__(self, conversation: list[dict[str, Any]], variables: Mapping[str, Any]) -> str: ...


class Renderer:
    """Not thread-safe state: none. Rendering a long conversation may run in a thread."""

    def __init__(
        self,
        template: Template,
        encode: Callable[[str, bool], list[int]],
        *,
        content_format: ContentFormat = "string",
        defaults: Mapping[str, Any] | None = None,
        bounds: Bounds = NO_BOUNDS,
    ) -> None:
        """`encode(text, add_special_tokens)`; `defaults` are template variables that requests may override. What is
        out of `bounds` is refused with `TooLong`."""
        self._template = template
        self._bounds = bounds
        self._most_messages, self._most_characters, self._most_tokens = bounds.most()
        self._encode = encode
        self._behind = Behind(lambda text: encode(text, False))
        self._defaults = dict(defaults or {})
        self.content_format = content_format

    def chat(self, messages: Sequence[ChatMessage], variables: Mapping[str, Any] | None) -> list[int]:
        """Token ids of a conversation that the model is to answer."""
        if len(messages) > self._most_messages:
            self._bounds.messages(len(messages))
        conversation = [self._turn(message) for message in messages]
        prompt = self._template(conversation, self._defaults | dict(variables) if variables else self._defaults)
        return self._tokens(prompt, False)

    def text(self, prompt: str) -> list[int]:
        """Token ids of a text completion's prompt."""
        return self._tokens(prompt, True)

    def tokens(self, prompt: list[int]) -> list[int]:
        """A prompt that is token ids already."""
        self._bounds.tokens(len(prompt))
        return prompt

    def answered(self, prompt: list[int], text: str, look: str) -> list[int]:
        """`prompt` and behind it `text`, which was answered already. `look`: what its writer would have put next."""
        if len(text) > self._most_characters:
            self._bounds.text(text)
        ids = prompt + self._behind(text, look)
        if len(ids) > self._most_tokens:
            self._bounds.tokens(len(ids))
        return ids

    def _tokens(self, text: str, add_special_tokens: bool) -> list[int]:
        if len(text) > self._most_characters:
            self._bounds.text(text)
        ids = self._encode(text, add_special_tokens)
        if len(ids) > self._most_tokens:
            self._bounds.tokens(len(ids))
        return ids

    def _turn(self, message: ChatMessage) -> dict[str, Any]:
        content: Any = message.content
        if self.content_format == "string":
            if not isinstance(content, str):
                content = "\n".join(part.text for part in content)
        elif isinstance(content, str):
            content = [{"type": "text", "text": content}]
        else:
            content = [{"type": "text", "text": part.text} for part in content]
        turn = {"role": message.role, "content": content}
        if message.name is not UNSET:
            turn["name"] = message.name
        return turn


def renderable(messages: Sequence[ChatMessage], variables: Mapping[str, Any] | None) -> bool:
    """Whether vLLM would render these exactly as `Renderer` does."""
    if variables and not RESERVED.isdisjoint(variables):
        return False
    return not any(message.role == "system" and _billing(message) for message in messages)


def _billing(message: ChatMessage) -> bool:
    content = message.content
    return any(
        text.startswith(_BILLING_HEADER)
        for text in ([content] if isinstance(content, str) else [p.text for p in content])
    )


def size_of(messages: Sequence[ChatMessage]) -> int:
    """Characters of a conversation's texts, and as many for each message: what rendering it will cost."""
    return _MESSAGE_CHARACTERS * len(messages) + sum(
        len(message.content) if isinstance(message.content, str) else sum(len(part.text) for part in message.content)
        for message in messages
    )


async def rendered(
    renderer: Renderer, fields: Body, submit: Submit, loop: asyncio.AbstractEventLoop
) -> tuple[list[int], int]:
    """Token ids of a request's prompt with what was answered already behind it, and how many are the prompt's."""
    if isinstance(fields, ChatBody):
        size = size_of(fields.messages)
        call = partial(renderer.chat, fields.messages, fields.chat_template_kwargs)
    elif isinstance(fields.prompt, list):
        size, call = 0, partial(renderer.tokens, fields.prompt)
    else:
        size, call = len(fields.prompt), partial(renderer.text, fields.prompt)
    text, look = submit.continue_text, submit.continued.look if submit.continued is not None else ""

    def work() -> tuple[list[int], int]:
        prompt = call()
        return renderer.answered(prompt, text, look) if text else prompt, len(prompt)

    if size + len(text) <= _INLINE_CHARACTERS:
        return work()
    return await loop.run_in_executor(None, work)
