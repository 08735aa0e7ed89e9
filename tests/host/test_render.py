"""Rendering, with a template that shows what it was given."""

import json

import pytest

from router.host.fields import ChatMessage, TextPart
from router.host.limits import Bounds, TooLong
from router.host.render import Renderer, renderable, size_of


class Template:
    def __call__(self, conversation, variables):
        self.variables = variables
        return json.dumps(conversation) + "|"


def encode(text, add_special_tokens):
    return [int(add_special_tokens), *text.encode()]


def rendered(renderer, messages, variables=None, answered=""):
    ids = renderer.chat(messages, variables)
    ids = renderer.answered(ids, answered, "")
    assert ids[0] == 0  # the template speaks for special tokens
    conversation, _, rest = bytes(ids).replace(b"\0", b"").decode().partition("|")
    return json.loads(conversation), rest


def test_text_parts_are_joined_for_templates_that_want_strings():
    messages = [
        ChatMessage("user", [TextPart("a", "text"), TextPart("b", "text")]),
        ChatMessage("assistant", "c", name="n"),
    ]
    conversation, _ = rendered(Renderer(Template(), encode), messages)
    assert conversation == [{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c", "name": "n"}]


def test_strings_become_parts_for_templates_that_loop_over_them():
    messages = [ChatMessage("user", [TextPart("a", "text"), TextPart("b", "text")]), ChatMessage("system", "c")]
    renderer = Renderer(Template(), encode, content_format="openai")
    conversation, _ = rendered(renderer, messages)
    assert conversation == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "system", "content": [{"type": "text", "text": "c"}]},
    ]


def test_a_partial_answer_follows_the_generation_prompt():
    template = Template()
    renderer = Renderer(template, encode, defaults={"a": 1, "b": 2})
    _, rest = rendered(renderer, [ChatMessage("user", "x")], {"b": 3}, "so far")
    assert rest == "so far"
    assert template.variables == {"a": 1, "b": 3}


def test_completions_get_their_special_tokens():
    renderer = Renderer(Template(), encode)
    assert renderer.text("ab") == [1, 97, 98]
    assert renderer.tokens([5, 6]) == [5, 6]


def test_what_was_answered_stands_behind_its_prompt_in_tokens_of_its_own():
    renderer = Renderer(Template(), lambda text, special: [*text.encode(), *[1] * special])
    assert renderer.answered([7, 7], "abc", "") == [7, 7, 97, 98, 99]


@pytest.mark.parametrize("name", ["tools", "documents", "tokenize", "chat_template", "add_generation_prompt"])
def test_variables_of_the_renderer_itself_are_not_ours(name):
    assert not renderable([ChatMessage("user", "x")], {name: 1})
    assert renderable([ChatMessage("user", "x")], {"enable_thinking": False})


def test_what_vllm_would_edit_is_not_ours():
    assert not renderable([ChatMessage("system", "x-anthropic-billing-header: 1\nBe good")], None)
    assert not renderable([ChatMessage("system", [TextPart("x-anthropic-billing-header: 1", "text")])], None)
    assert renderable([ChatMessage("user", "x-anthropic-billing-header: 1")], None)


def test_size_counts_all_texts():
    messages = [ChatMessage("user", "abc"), ChatMessage("user", [TextPart("de", "text"), TextPart("f", "text")])]
    assert size_of(messages) == 6 + 2 * 32


def test_a_prompt_of_more_characters_than_the_context_holds_is_not_cut_into_tokens():
    encoded = []
    renderer = Renderer(Template(), lambda text, special: encoded.append(text) or [1], bounds=Bounds(100, 5))
    with pytest.raises(TooLong, match=r"is 100 tokens. Your prompt has 501 characters \(more than the 500 "):
        renderer.text("x" * 501)
    with pytest.raises(TooLong, match="characters"):
        renderer.answered([1], "x" * 501, "")
    with pytest.raises(TooLong, match="characters"):
        renderer.chat([ChatMessage("user", "x" * 500)], None)
    assert encoded == []
    assert renderer.text("x" * 500) == [1]


def test_more_messages_than_tokens_are_not_rendered_where_each_costs_one():
    def never(conversation, variables):
        raise AssertionError("rendered")

    messages = [ChatMessage("user", "a")] * 101
    with pytest.raises(TooLong, match=r"Your prompt has 101 messages, each of a token at least\."):
        Renderer(never, encode, bounds=Bounds(100, 0, True)).chat(messages, None)
    with pytest.raises(AssertionError, match="rendered"):
        Renderer(never, encode, bounds=Bounds(100, 0, False)).chat(messages, None)


def test_a_prompt_of_too_many_tokens_is_refused_once_it_is_cut():
    renderer = Renderer(Template(), encode, bounds=Bounds(10))
    with pytest.raises(TooLong, match=r"Your prompt has 11 tokens\."):
        renderer.text("x" * 10)
    with pytest.raises(TooLong, match=r"Your prompt has 11 tokens\."):
        renderer.tokens([1] * 11)
    assert len(renderer.tokens([1] * 10)) == 10
    with pytest.raises(TooLong, match=r"Your prompt has 11 tokens\."):
        Renderer(Template(), lambda text, special: list(text.encode()), bounds=Bounds(10)).answered([1] * 10, "x", "")
