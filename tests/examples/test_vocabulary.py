"""The pair's tokenizer and chat template: any text survives, any conversation renders."""

import json
import random

import answering
import pytest
import train
import vocabulary
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="module")
def tokenizer(pair):
    return Tokenizer.from_file(str(pair / "small" / "tokenizer.json"))


@pytest.fixture(scope="module")
def chat(pair):
    return PreTrainedTokenizerFast.from_pretrained(pair / "large")


def test_the_script_makes_the_tokenizer_that_is_kept(pair):
    kept = json.loads((pair / "small" / "tokenizer.json").read_text())
    assert json.loads(vocabulary.build().to_str()) == kept


def test_both_models_share_it(pair):
    small, large = ((pair / name / "tokenizer.json").read_bytes() for name in ("small", "large"))
    assert small == large


@given(text=st.text())
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


@given(number=st.integers(0, 10**12))
def test_each_digit_is_a_token(tokenizer, number):
    assert tokenizer.encode(str(number)).tokens == list(str(number))


def test_special_tokens_have_their_places(tokenizer):
    assert [tokenizer.token_to_id(token) for token in vocabulary.SPECIALS] == list(range(len(vocabulary.SPECIALS)))
    assert tokenizer.get_vocab_size() == vocabulary.SIZE


def test_conversation_renders(chat):
    turns = [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": [{"type": "text", "text": "12+"}, {"type": "text", "text": "7="}]},
        {"role": "assistant", "content": "19"},
        {"role": "user", "content": "What is 3 + 4?"},
    ]
    assert chat.apply_chat_template(turns, tokenize=False, add_generation_prompt=True) == (
        "<|system|>Answer briefly.<|end|><|user|>12+7=<|end|><|assistant|>19<|end|>"
        "<|user|>What is 3 + 4?<|end|><|assistant|>"
    )


def test_partial_answer_can_be_continued(chat):
    turns = [{"role": "user", "content": "4821+977="}, {"role": "assistant", "content": "1+7=8, "}]
    rendered = chat.apply_chat_template(turns, tokenize=False, continue_final_message=True)
    assert rendered == "<|user|>4821+977=<|end|><|assistant|>1+7=8, "


def test_tools_are_named_and_their_calls_and_results_shown(chat):
    tool = {"type": "function", "function": {"name": "add", "description": "Add.", "parameters": {"type": "object"}}}
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 12, "b": 7}}}
    turns = [
        {"role": "user", "content": "12+7="},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "19"},
    ]
    assert chat.apply_chat_template(turns, tools=[tool], tokenize=False, add_generation_prompt=True) == (
        "<|tool|>add <|end|><|user|>12+7=<|end|>"
        '<|assistant|><tool_call>{"name": "add", "arguments": {"a": 12, "b": 7}}</tool_call><|end|>'
        "<|tool|>19<|end|><|assistant|>"
    )


def test_unknown_role_is_refused(chat):
    with pytest.raises(Exception, match="Unknown role critic: expected system, user, assistant or tool"):
        chat.apply_chat_template([{"role": "critic", "content": "no"}], tokenize=False)


@pytest.mark.parametrize("task", sorted({*train.COLUMNS.mix, *train.REST.mix, *train.SHORT.mix, *train.POLISH.mix}))
def test_training_renders_as_the_chat_template_does(chat, task):
    rng = random.Random(11)
    lesson = next(lesson for lesson in (train.REST, train.POLISH, train.COLUMNS, train.SHORT) if task in lesson.mix)
    exchange = train.draw(rng, lesson._replace(mix={task: 1.0}))
    turns = [{"role": "system", "content": exchange.system}] if exchange.system else []
    turns.append({"role": "user", "content": exchange.prompt})
    if exchange.call:
        call = json.loads(exchange.call.removeprefix("<tool_call>").removesuffix("</tool_call>"))
        turns.append({"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]})
        turns.append({"role": "tool", "content": exchange.result})
    tools = [{"type": "function", "function": {"name": "add"}}] if exchange.tools else None
    rendered = chat.apply_chat_template(turns, tools=tools, tokenize=False, add_generation_prompt=True)
    assert rendered == answering.render(exchange)
