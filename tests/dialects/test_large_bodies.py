"""Large bodies are read natively where they can be, to the same queries and refusals as small ones."""

import json
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dialects import decode as reader
from router.dialects import parse
from router.errors import BadRequest
from router.features.conversation import segments
from router.native.large_body import TextTurns, read_chat, shorten_ids, take_texts
from router.types import Kind, Query

PAD = " " * reader.MANY_OBJECTS_BYTES
IDS = list(range(300, 5_000))
MARK = "0123456789abcdef"


def outcome(kind: Kind, body: bytes) -> Any:
    """A query's fields, or a refusal's."""
    try:
        query, sent = reader.read(kind, body)
    except BadRequest as error:
        return str(error), error.param, error.code
    fields = {name: getattr(query, name) for name in Query.__struct_fields__}
    return fields | {"turns": tuple(query.turns), "body": sent}


def read_ordinarily(patch: pytest.MonkeyPatch, size: int) -> None:
    """Bodies of up to `size` bytes."""
    for module in (reader, parse):
        patch.setattr(module, "MANY_OBJECTS_BYTES", size)


def both(monkeypatch: pytest.MonkeyPatch, kind: Kind, body: bytes) -> tuple[Any, Any]:
    assert len(body) > reader.MANY_OBJECTS_BYTES
    natively = outcome(kind, body)
    with monkeypatch.context() as patch:
        read_ordinarily(patch, len(body))
        return natively, outcome(kind, body)


USER = {"role": "user", "content": "hi"}
CHATS: list[Any] = [
    {"messages": [USER]},
    {"messages": [USER] * 3, "model": "m", "stream": True, "max_tokens": 5, "n": 2},
    {"messages": [{"role": "system", "content": 'é漢😀\n\\"'}, {"role": "assistant", "content": None}, USER]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
    {"messages": [{"role": "user", "content": ["bare"]}]},
    {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
    {"messages": [USER], "tools": [{"type": "function"}]},
    {"messages": [USER], "max_tokens": "7", "stream": "yes"},
    {"messages": [USER], "max_tokens": 0},
    {"messages": [USER], "n": 4_000},
    {"messages": [USER], "model": "m" * 2_000},
    {"messages": [USER], "response_format": {"type": "json_object"}},
    {"messages": []},
    {"messages": "hi"},
    {"messages": [{"content": "no role"}]},
    {"messages": [{"role": "user", "content": 7}]},
    {"model": "m"},
    [],
]


@pytest.mark.parametrize("chat", CHATS)
def test_a_large_chat_is_read_as_a_small_one(monkeypatch: pytest.MonkeyPatch, chat: object) -> None:
    natively, ordinarily = both(monkeypatch, "chat", (json.dumps(chat) + PAD).encode())
    assert natively == ordinarily


@pytest.mark.parametrize("kind", ["completions", "detokenize"])
@pytest.mark.parametrize(
    "text",
    [
        '{"K": IDS}',
        '{"model": "m", "K": IDS, "max_tokens": 3}',
        '{"K": [IDS, [1, 2], IDS]}',
        '{"K": [[1], IDS, "text"]}',
        '{"K": [1, "text", IDS]}',
        '{"K": [[1], [2, 3], [4]], "n": 0}',
        '{"K": [[1], IDS, [4]], "n": 1x}',
        '{"K": [[1], IDS, []]}',
        '{"K": [IDS, [1], 5]}',
        '{"K": [[1] [2]]}',
        '{"K": [[1], [2]',
        '{"K": IDS, "K": [1, 2, 3]}',
        '{"K": [1, 2, 3], "K": IDS}',
        '{"K": IDS, "K": "text"}',
        '{"K": IDS, "\\u004b": IDS}',
        '{"other": IDS, "K": [5]}',
        '{"other": {"K": IDS}, "K": [5, 6]}',
        '{"K": {"K": IDS}}',
        '{"K": [[IDS]]}',
        '{"K": IDS.0}',
        '{"K": [-1, 2]}',
        '{"K": [-0, -2]}',
        '{"K": [-01, -2]}',
        '{"K": [-, -2]}',
        '{"K": [9223372036854775807, 9223372036854775808, 1]}',
        '{"K": [999999999999999999, -999999999999999999]}',
        '{"K": [01, 2]}',
        '{"K": [1, 2.0, "3"]}',
        '{"K": [1, true]}',
        '{"K": [99999999999, 99999999999999999999999]}',
        '{"K": []}',
        '{"K": [1,]}',
        '{"K": IDS',
        '{"K": IDS, "n": 1x}',
        '{"K": IDS, "n": "x"}',
        '{"K": IDS, "model": 7}',
        '{"K": IDS, "model": "\\ud800"}',
        '{"K": IDS} x',
        '{"a": "\\", \\"K\\": [1, 2]", "K": IDS}',
        "[IDS]",
        "IDS",
    ],
)
def test_a_large_body_of_token_ids_is_read_as_a_small_one(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, text: str
) -> None:
    key = "prompt" if kind == "completions" else "tokens"
    text = text.replace("K", key).replace("IDS", json.dumps(IDS)) if "\\u004b" not in text else (
        text.replace("K", key).replace("\\u004b", f"\\u{ord(key[0]):04x}{key[1:]}").replace("IDS", json.dumps(IDS))
    )  # fmt: skip
    natively, ordinarily = both(monkeypatch, kind, (text + PAD).encode())
    assert natively == ordinarily


LONG = 'é漢😀\\\n" a' * 2_000
TEXTS = [f'{i} é漢😀\n"\\' * (i % 5) for i in range(400)]
#: T: texts that a large body's reader takes out; L: a long one.
BODIES: list[tuple[Kind, str]] = [
    *[
        (kind, text)
        for kind in ("completions", "detokenize", "tokenize", "chat", "messages", "responses")
        for text in (
            '{"prompt": L, "tokens": [1], "messages": [{"role": "u"}], "input": "i"}',
            '{"prompt": [T], "tokens": [T], "messages": [{"role": "u", "content": [T]}], "input": [{"content": [T]}]}',
            '{"messages": [{"role": L, "content": L}], "system": [T], "input": L, "instructions": L, "x": [L], L: 1}',
            '{"messages": [{"role": "u"}], "x": [T, L], "prompt": "a", "input": "a"}',
            '{"messages": [{"role": "u", "content": [T, {"text": L}, L, "", {"text": "b"}, T, {"type": L}, "c"]}]}',
            '{"input": [{"output": [T, {"text": L}]}, {"role": "u", "content": L}], "tools": [T], "text": {}}',
            '{"messages": [{"role": "u", "content": [{"content": [T, {"content": [T, L]}, T]}, {"content": {L: L}}]}]}',
            '{"messages": [{"role": "u", "content": [T, 7]}], "prompt": [T, null], "tokens": [1, T], "input": [T]}',
            '{"messages": [T], "prompt": {"a": [T]}, "input": {"a": L}, "tokens": L}',
            '{"messages": [{"role": "u", "content": L}, {"role": [T]}], "input": [{"role": L}, {"role": 1}]}',
            '{"model": L, "messages": [{"role": "u"}], "prompt": "a", "input": "a", "tokens": [1]}',
            '{"model": [T], "messages": [{"role": "u"}], "prompt": "a", "input": "a", "tokens": [1]}',
            '{"x": [T, "\\ud800", T, L], "messages": [{"role": "u"}], "prompt": "a", "input": "a", "tokens": [1]}',
            '{"x": [T, "\\u12g4", T, L], "messages": [{"role": "u"}], "prompt": "a", "input": "a", "tokens": [1]}',
            '{"x": [T, "\t", T, L], "messages": [{"role": "u"}], "prompt": "a", "input": "a", "tokens": [1]}',
            '{"x": [T, "a" "b"]}',
            '{"x": [T, L}',
            '{"x": [T, L',
            '{"x": [T, L, "open',
            '{"x": [T, "\\',
            '{"x": L "y": 1}',
            '{"x": [T]} x',
            "[T]",
            "T, L",
            "]]",
        )
    ],
    *[
        ("completions", text)
        for text in (
            '{"prompt": [T, 1, T, [2, 3], L, [4], 5]}',
            '{"prompt": [[1, 2], T]}',
            '{"prompt": [T, true]}',
            '{"prompt": [T, 1.0, [true]]}',
            '{"prompt": [[T]]}',
            '{"prompt": [T], "prompt": ["a", T, T]}',
            '{"prompt": [T], "prompt": "a"}',
            '{"prompt": [T], "stream": "YES", "n": "2.0"}',
            '{"prompt": [T], "stream": L}',
            '{"prompt": [T], "n": L}',
            '{"prompt": [T], "n": 0}',
            '{"prompt": "", "prompt_embeds": [T]}',
            '{"prompt": [T], "response_format": {"type": L}}',
            '{"pro\\u006dpt": [T, true], "\\u0070rompt": [T, L, true]}',
        )
    ],
]  # fmt: skip


@pytest.mark.parametrize("repeated", [1, 30])
@pytest.mark.parametrize(("kind", "text"), BODIES, ids=lambda value: value[:60])
def test_a_large_body_of_texts_is_read_as_a_small_one(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, text: str, repeated: int
) -> None:
    """Of the repeated ones the texts are longer than the token ids that are spelled anew."""
    texts = json.dumps(TEXTS * repeated, ensure_ascii=repeated > 1)[1:-1]
    body = re.sub("[TL]", lambda match: texts if match[0] == "T" else json.dumps(LONG), text)
    natively, ordinarily = both(monkeypatch, kind, (body + PAD).encode())
    assert natively == ordinarily


@given(st.data())
def test_a_body_of_any_texts_is_read_as_a_small_one(data: st.DataObject) -> None:
    texts = st.text('aé漢😀\\"\n\0', max_size=3)
    part = st.one_of(
        texts, texts, texts, texts.map(lambda text: {"type": "text", "text": text}), st.just({"type": "x"})
    )
    parts = data.draw(st.lists(part, min_size=15, max_size=40))
    prompt = st.one_of(texts, texts, st.integers(0, 9), st.lists(st.integers(0, 9)), st.sampled_from([None, 1.5, True]))
    fields = {
        "messages": [{"role": "user", "content": parts}],
        "prompt": data.draw(st.lists(prompt, min_size=15, max_size=40)),
    }
    body = (json.dumps(fields, ensure_ascii=data.draw(st.booleans())) + PAD).encode()
    kind: Kind
    for kind in ("chat", "completions", "messages"):
        with pytest.MonkeyPatch.context() as patch:
            natively, ordinarily = both(patch, kind, body)
        assert natively == ordinarily


def test_texts_are_taken_out_of_lists_and_where_they_are_long() -> None:
    body = {"a": ["t"] * 20 + [{"b": "t" * 20_000}, "u", "v"], "c": "short", "d" * 20_000: 1}
    text = json.dumps(body).encode()
    found = take_texts(text, b"c", MARK)
    assert found is not None
    left = {"a": ["t"] * 16 + [f"<{MARK}:0>", "", "", "", {"b": f"<{MARK}:1>"}, f"<{MARK}:2>", ""], "c": "short"}
    assert json.loads(found.json) == left | {f"<{MARK}:3>": 1}
    assert [found.text(run) for run in range(4)] == ["t\nt\nt\nt", "t" * 20_000, "u\nv", "d" * 20_000]
    assert [found.count(run) for run in range(4)] == [4, 1, 2, 1]
    assert found.value_bytes == len('"short"')
    at = found.json.index(b'"short"')
    assert text[found.place_before(at) :].startswith(b'"short"')
    with pytest.raises(IndexError):
        found.text(4)


def test_a_text_that_looks_like_a_mark_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = iter([MARK, MARK[::-1]])
    monkeypatch.setattr(reader, "token_hex", lambda size: next(marks))
    body = json.dumps({"prompt": [f"<{MARK[::-1]}:{i}>" for i in range(40)]}) + PAD
    assert reader.decode("completions", body.encode()).turns[0].text.count(MARK[::-1]) == 40


ids = st.integers(-(10**19), 10**19)
values = st.recursive(
    st.one_of(ids, st.text('",:[]{}\\1é'), st.none(), st.floats(0, 9), st.lists(ids, max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.sampled_from("ab1"), inner, max_size=3)),
)


def plain(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(type(item) is int and abs(item) < 10**18 for item in value)


def cut(value: Any, lengths: list[int], depth: int = 1) -> Any:
    """What `shorten_ids` makes of a value under its key; `lengths` of the lists that it cuts, -1 behind an object."""
    if isinstance(value, dict):
        lengths.append(-1)
    if not isinstance(value, list):
        return value
    if depth <= 2 and -1 not in lengths:
        if plain(value):
            lengths.append(len(value))
            return value[:1]
        if value and all(plain(item) for item in value):
            lengths.extend(map(len, value))
            return [value[0][:1]]
    return [cut(item, lengths, depth + 1) for item in value]


@given(st.dictionaries(st.sampled_from(["prompt", "a", "b"]), values, max_size=3), st.sampled_from([None, 1]))
def test_lists_of_ids_are_cut_under_their_key_only(body: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(body, indent=indent).encode()
    lengths = [0]
    shortened = {key: cut(value, lengths) if key == "prompt" else value for key, value in body.items()}
    found = shorten_ids(text, b"prompt")
    if found is None:
        assert shortened == body
    else:  # if only to leave out the blanks behind a single id
        assert (json.loads(found.json), found.most_ids) == (shortened, max(lengths))
        assert found.place_before(len(found.json)) == len(text)


@given(st.binary(max_size=60) | st.text('{}[]",:\\1 prompt', max_size=60).map(str.encode))
def test_what_is_no_json_is_left_to_the_decoder(text: bytes) -> None:
    for found in (shorten_ids(text, b"prompt"), take_texts(text * 20, b"prompt", MARK)):
        assert found is None or found.place_before(len(found.json)) == len(text) * (20 if found.json[20:] else 1)


def test_turns_that_were_read_natively_are_a_sequence_of_turns() -> None:
    found = read_chat(json.dumps({"messages": [{"role": "user", "content": f"é{i}\n"} for i in range(5)]}).encode())
    assert found is not None
    turns = found[1]
    assert isinstance(turns, TextTurns)
    assert [turn.text for turn in turns] == [f"é{i}\n" for i in range(5)]
    assert (len(turns), turns[-1].text, [turn.text for turn in turns[1:3]]) == (5, "é4\n", ["é1\n", "é2\n"])
    for index in (5, -6):
        with pytest.raises(IndexError):
            turns[index]
    assert segments(turns) == segments(tuple(turns))


def _work_s(function: Callable[[], object]) -> float:
    """Processor time of the least of five calls: that of other threads and processes does not count."""
    spent = []
    for _ in range(5):
        begun = time.thread_time()
        function()
        spent.append(time.thread_time() - begun)
    return min(spent)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("chat", {"messages": [USER] * 100_000}),
        ("completions", {"prompt": [1] * 500_000}),
        ("completions", {"prompt": [[7, 8] * 50] * 5_000}),
        ("completions", {"prompt": [[1]] * 100_000}),
        ("detokenize", {"tokens": [12_345] * 500_000}),
    ],
)
def test_a_body_of_many_turns_or_ids_holds_the_loop_for_a_fraction_of_its_decoding(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, body: object
) -> None:
    data = json.dumps(body).encode()
    natively = _work_s(lambda: reader.read(kind, data))
    read_ordinarily(monkeypatch, len(data))
    assert natively < 0.6 * _work_s(lambda: reader.read(kind, data))


def _longest_hold(job: Callable[[], object]) -> tuple[float, float]:
    """Of a thread that does `job`: most processor seconds between two moments at which another thread, which always
    asks for the interpreter's lock, had it; and all its processor seconds. Least of five."""
    found = [_hold(job) for _ in range(5)]
    return min(longest for longest, _ in found), min(whole for _, whole in found)


def _hold(job: Callable[[], object]) -> tuple[float, float]:
    go, whole = threading.Event(), []

    def work() -> None:
        go.wait()
        begun = time.thread_time()
        job()
        whole.append(time.thread_time() - begun)
        ended.wait()

    ended = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    clock = time.pthread_getcpuclockid(thread.ident or 0)
    longest, last = 0.0, time.clock_gettime(clock)
    go.set()
    while not whole:
        time.sleep(0)
        now = time.clock_gettime(clock)
        longest, last = max(longest, now - last), now
    ended.set()
    thread.join()
    return longest, whole[0]


def many(before: str, item: str, count: int) -> bytes:
    """Behind the list the decoder ends in an error: nearly all is spent in one call of it."""
    return f"{before}[{','.join([item] * count)}] x".encode()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("chat", many('{"tools": [1], "messages": ', '{"role": "user", "content": "hi"}', 150_000)),
        ("chat", many('{"messages": [{"role": "user", "content": ', '{"text": "a"}', 250_000)),
        ("responses", many('{"input": ', "{}", 400_000)),
        ("completions", many('{"prompt": ', '"é漢a é漢a"', 400_000)),
        ("chat", many('{"messages": [{"role": "user", "content": ', '"a long text é\\n"', 400_000)),
        ("completions", many('{"prompt": "', "é漢a\\n", 1_000_000).replace(b"] x", b'" x')),
    ],
    ids=["turns", "parts", "items", "texts", "bare texts", "one text"],
)
def test_a_body_of_many_objects_or_texts_is_read_while_other_threads_run(kind: Kind, body: bytes) -> None:
    def job() -> None:
        with pytest.raises(BadRequest, match="not valid JSON"):
            reader.read(kind, body)

    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(5e-4)
    try:
        longest_s, whole_s = _longest_hold(job)
    finally:
        sys.setswitchinterval(switch_s)
    assert longest_s < 0.4 * whole_s
