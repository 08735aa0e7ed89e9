"""Tests at start whether the fast way renders this model's prompts exactly as vLLM does; otherwise it is not used.

Compares token ids over a few conversations. It does not depend on vLLM's renderer classes, which change with every
version.
"""

import copy
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from router.host.adapter.slow import SlowWay
from router.host.fields import ChatMessage
from router.host.limits import Bounds, TokenLimits
from router.host.render import ContentFormat, Renderer, Template

logger = logging.getLogger("headgate.host")

_TEXT = "Héllo, wörld! 日本 \U0001f642\n  2 + 2 = 4;\t`x`"
_CONVERSATIONS: tuple[list[dict[str, Any]], ...] = (
    [{"role": "user", "content": _TEXT}],
    [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": _TEXT}]}],
    [
        {"role": "system", "content": "Be brief. "},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": _TEXT},
    ],
)


class _Tokens(msgspec.Struct):
    tokens: list[int]


def limits_of(engine: Any, serving: Any) -> TokenLimits:
    """vLLM's own bounds on generated tokens, read off the serving class."""
    default = serving.default_sampling_params.get("max_tokens")
    return TokenLimits(
        engine.model_config.max_model_len, _clamps(), default, getattr(serving, "override_max_tokens", None)
    )


async def bounds_of(engine: Any, slow: SlowWay) -> Bounds:
    """vLLM's own bound on characters; on messages where this model's template lets none go for nothing."""
    tokenizer = engine.renderer.tokenizer
    longest = getattr(tokenizer, "max_chars_per_token", None)
    if longest is None and tokenizer is not None:
        longest = max(map(len, tokenizer.get_vocab()), default=0)
    return Bounds(engine.model_config.max_model_len, longest or 0, await _messages_count(slow))


async def _messages_count(slow: SlowWay) -> bool:
    sizes = []
    for turns in (1, 5, 9):
        messages = [{"role": ("user", "assistant")[turn % 2], "content": ""} for turn in range(turns)]
        sizes.append(len(await _ask(slow, {"messages": messages}) or ()))
    return sizes[0] > 0 and sizes[0] + 4 <= sizes[1] and sizes[1] + 4 <= sizes[2]


def _clamps() -> bool:
    """Later versions cut `max_tokens` to what the context holds, earlier ones refuse."""
    from vllm.renderers.params import TokenizeParams

    return bool(TokenizeParams(max_total_tokens=10, max_output_tokens=5).max_input_tokens == 10)


def encoder(engine: Any) -> Callable[[str, bool], list[int]] | None:
    """A tokenizer of our own, so that vLLM's threads and truncation settings do not reach us. None: not a fast one."""
    backend = getattr(engine.renderer.tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    tokenizer = copy.deepcopy(backend)
    tokenizer.no_truncation()
    tokenizer.no_padding()

    # Unlike `encode`, a batch of one releases the GIL: other streams go on while a long prompt is cut up.
    batch = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)

    def encode(text: str, add_special_tokens: bool) -> list[int]:
        ids: list[int] = batch([text], add_special_tokens=add_special_tokens)[0].ids
        return ids

    return encode


def template_of(tokenizer: Any, chat_template: str | None) -> Template:
    """The compiled template; where transformers does not let us at it, its slower method."""
    try:
        from transformers.utils.chat_template_utils import _compile_jinja_template

        compiled = _compile_jinja_template(tokenizer.get_chat_template(chat_template))
        special = dict(tokenizer.special_tokens_map)
    except (ImportError, AttributeError, ValueError) as error:
        logger.info("chat templates are rendered by transformers: %s", error)

        def apply(conversation: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
            prompt: str = tokenizer.apply_chat_template(
                conversation, chat_template=chat_template, tokenize=False, add_generation_prompt=True, **variables
            )
            return prompt

        return apply

    def render(conversation: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
        prompt: str = compiled.render(
            messages=conversation, tools=None, documents=None, add_generation_prompt=True, **(special | dict(variables))
        )
        return prompt

    return render


def _no_template(conversation: list[dict[str, Any]], variables: Mapping[str, Any]) -> str:
    raise ValueError("this renderer is for text completions")


async def completion_renderer(engine: Any, slow: SlowWay, bounds: Bounds) -> Renderer | None:
    """A renderer for text completions, proven on one text; None when vLLM tokenizes otherwise."""
    encode = encoder(engine)
    if encode is None:
        return None
    renderer = Renderer(_no_template, encode, bounds=bounds)
    wanted = await _ask(slow, {"prompt": _TEXT})
    return renderer if wanted is not None and renderer.text(_TEXT) == wanted else None


async def chat_renderer(engine: Any, state: Any, slow: SlowWay, bounds: Bounds) -> Renderer | None:
    """A renderer for chat, proven on a few conversations; None when chat must go through vLLM's classes."""
    serving = getattr(state, "openai_serving_chat", None)
    encode = encoder(engine)
    if serving is None or encode is None or _parses(serving) or serving.response_role != "assistant":
        return None
    template = template_of(engine.renderer.tokenizer, serving.chat_template)
    defaults = getattr(serving, "default_chat_template_kwargs", None)
    formats: tuple[ContentFormat, ...] = ("string", "openai")
    for content_format in formats:
        renderer = Renderer(template, encode, content_format=content_format, defaults=defaults, bounds=bounds)
        if await _same(renderer, slow):
            return renderer
    logger.warning("chat takes the slow way: its prompts could not be rendered as vLLM renders them")
    return None


def _parses(serving: Any) -> bool:
    """Whether vLLM looks into answers for reasoning, or for tool calls even where no tools were offered."""
    parser = getattr(serving, "parser_cls", None)
    if parser is None:
        return False
    tool_parser = getattr(parser, "tool_parser_cls", None)
    return getattr(parser, "reasoning_parser_cls", None) is not None or getattr(
        tool_parser, "engine_based_streaming", True
    )


async def _same(renderer: Renderer, slow: SlowWay) -> bool:
    for messages in _CONVERSATIONS:
        wanted = await _ask(slow, {"messages": messages})
        try:
            ours = renderer.chat(msgspec.convert(messages, list[ChatMessage]), None)
        except Exception as error:  # a template may refuse a conversation; vLLM must refuse it too
            logger.debug("the chat template refused a conversation: %s", error)
            ours = None
        if ours != wanted:
            logger.info("rendered as %s: %s; vLLM: %s", renderer.content_format, ours, wanted)
            return False
    return True


async def _ask(slow: SlowWay, body: dict[str, Any]) -> list[int] | None:
    status, answer = await slow.ask("tokenize", body)
    return msgspec.json.decode(answer, type=_Tokens).tokens if status == 200 else None
