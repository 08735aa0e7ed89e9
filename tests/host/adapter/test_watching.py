"""Watched answers on the fast way, with vLLM's own parameters and a made-up engine: what that is asked, and what is
told at the end. Its worker's part is the table, written as a worker would."""

import asyncio
import json
from types import SimpleNamespace

import numpy as np
import pytest

from router.host.limits import TokenLimits
from router.host.render import Renderer
from router.host.sse import NONE_CACHED, Shape
from router.host.watch.requests import Watches
from router.host.watch.table import KEY, WatchTable
from router.host.watch.vocabulary import first_ids
from router.ipc.messages import Submit
from tests.conftest import until

pytest.importorskip("vllm", reason="the adapter needs vLLM")
pytestmark = pytest.mark.filterwarnings("ignore")

STOP = 250
BODY = {"prompt": "Say a", "max_tokens": 50, "temperature": 0}
STATE = {"tokens": 0, "recent_logprob": 3, "recent_entropy": 5, "fired": 11, "likeliest": 12, "estimate": 13, "of": 14}


class Engine:
    """Takes requests and makes nothing of them."""

    errored = False

    def __init__(self):
        self.asked, self.aborted = [], []

    async def add_request(self, id, prompt, sampling, **more):
        self.asked.append((prompt, sampling))
        return SimpleNamespace(request_id=id, output=None, put=None)

    async def abort(self, id, internal):
        self.aborted.append(id)


class Outputs:
    """Where the engine's outputs arise: keeps who listens."""

    def __init__(self):
        self.listeners = []

    def listen(self, id, listener):
        self.listeners.append(listener)

    def forget(self, id):
        pass


class Answer:
    def __init__(self):
        self.chunks, self.ended, self.handed, self.failed = [], None, None, None

    def begun(self): ...

    def untimed(self): ...

    def chunk(self, data):
        self.chunks.append(data)

    def done(self, usage, finish_reason, figures=None, first_logits=b""):
        self.ended = usage, finish_reason, figures, first_logits

    def handoff(self, handed):
        self.handed = handed

    def fail(self, failure):
        self.failed = failure


class House:
    """A fast way whose engine is watched, and its worker's pen."""

    def __init__(self, folder):
        from router.host.adapter.fast import FastWay

        self.engine, self.outputs, self.slow = Engine(), Outputs(), []
        self.table = WatchTable.create(str(folder / "m.sock.watch"), 300, slots=2, firsts=20)
        self.table.describe(np.ones(300, np.uint8), first_ids(300, 20), stop=STOP, hidden=STOP)
        renderer = Renderer(lambda conversation, variables: "x", lambda text, special: list(text.encode()))
        self.way = FastWay(
            self.engine,
            renderer,
            lambda submit, answer: self.slow.append(submit) or (lambda: None),
            asyncio.get_running_loop(),
            name="small",
            limits=TokenLimits(512, True, None, None),
            defaults={"stop_token_ids": [11]},
            chat=True,
            outputs=self.outputs,
            shapes=dict.fromkeys(("chat", "completions"), Shape()),
        )
        self.way.watches = Watches(self.table, text_of=lambda token: f" t{token}")

    async def ask(self, body=BODY, watch=b"{}", **more):
        """The answer's receiver, and who hears the engine."""
        answer, asked = Answer(), len(self.engine.asked)
        self.stop = self.way.start(
            Submit(id=1, kind="completions", body=json.dumps(body).encode(), watch=watch, **more), answer
        )
        await until(lambda: (len(self.engine.asked) > asked and len(self.outputs.listeners) > asked) or bool(self.slow))
        return answer, self.outputs.listeners[-1] if self.outputs.listeners else None

    @property
    def sampling(self):
        return self.engine.asked[-1][1]

    def write(self, tokens, **values):
        _, slot, generation = self.sampling.extra_args[KEY]
        state = np.zeros(16, np.float32)
        for name, value in ({"tokens": tokens, "of": generation} | values).items():
            state[STATE[name]] = value
        self.table.states[slot, tokens % 2] = state

    @property
    def free(self):
        return int((self.table.orders[:, 0] == 0).sum())


@pytest.fixture
async def house(tmp_path):
    return House(tmp_path)


async def test_the_engine_is_asked_with_a_slot_and_the_reserved_token(house):
    await house.ask(BODY | {"stop_token_ids": [12]})
    assert house.sampling.stop_token_ids == [12, 11, STOP]
    assert house.sampling.extra_args[KEY][0] == house.table.seal
    assert house.free == 1


async def test_a_request_that_asks_for_no_watch_is_as_it_was(house):
    answer, heard = await house.ask(watch=b"")
    assert house.sampling.stop_token_ids == [11]
    assert house.sampling.extra_args is None
    assert house.free == 2
    heard.heard("ab", 2, "length", None, NONE_CACHED)
    assert answer.ended[2:] == (None, b"")


async def test_an_engine_without_the_watch_answers_all_the_same(house):
    house.way.watches = None
    answer, heard = await house.ask(watch=b"{}")
    heard.heard("ab", 2, "stop", None, NONE_CACHED)
    assert answer.ended[2:] == (None, b"")


async def test_the_end_tells_the_figures_and_frees_the_slot(house):
    answer, heard = await house.ask(watch=b'{"keep_first": true}')
    house.write(3, recent_logprob=-0.5)
    house.table.kept[:] = 0.25
    heard.heard("abc", 3, "length", None, NONE_CACHED)
    usage, reason, figures, first = answer.ended
    assert (usage.completion_tokens, reason) == (3, "length")
    assert (figures.tokens, figures.recent_logprob) == (3, -0.5)
    assert np.frombuffer(first, np.float16).tolist() == [0.25] * 20
    assert house.free == 2


async def test_a_whole_answer_that_was_stopped_is_handed_off_and_nothing_is_told(house):
    answer, heard = await house.ask(watch=b'{"statistic": "entropy", "knots": [[2, 1.0]]}')
    house.write(4, recent_entropy=2.5, fired=1, likeliest=17)
    heard.heard("abc", 4, "stop", STOP, NONE_CACHED)
    handed = answer.handed
    assert (answer.chunks, answer.ended, answer.failed) == ([], None, None)
    assert (handed.text, handed.tokens, handed.why) == ("abc", 3, "watch: entropy 2.500 after 3 tokens")
    assert (handed.usage.prompt_tokens, handed.usage.completion_tokens) == (len("Say a"), 3)
    assert handed.figures.tokens == 4
    assert (handed.continued.look, handed.continued.sent, handed.continued.completion_tokens) == (" t17", 0, 3)
    assert house.free == 2


async def test_a_stream_that_was_stopped_tells_of_no_end_and_hands_off_what_it_held_back(house):
    answer, heard = await house.ask(BODY | {"stream": True}, watch=b'{"statistic": "tokens", "knots": [[2, 0]]}')
    heard.heard("ab", 1, None, None, NONE_CACHED)
    heard.heard("cd", 1, None, None, NONE_CACHED)
    shown = b"".join(answer.chunks)
    house.write(3, fired=1, likeliest=-1)
    heard.heard("ef", 1, "stop", STOP, NONE_CACHED)
    assert b"".join(answer.chunks) == shown
    assert b"[DONE]" not in shown
    assert (answer.handed.text, answer.handed.continued.sent, answer.handed.tokens) == ("abcdef", 4, 2)
    assert answer.handed.continued.opened
    assert answer.handed.continued.look == ""
    assert house.free == 2


async def test_a_stop_before_the_first_token_shows_nothing(house):
    weights = [0.0] * 20
    asked = json.dumps({"first_bound": 0.0, "first_weights": weights, "first_bias": -1.0}).encode()
    answer, heard = await house.ask(BODY | {"stream": True}, watch=asked)
    house.write(1, fired=2, estimate=-1.0)
    heard.heard("", 1, "stop", STOP, NONE_CACHED)
    assert (answer.chunks, answer.handed.text, answer.handed.tokens) == ([], "", 0)
    assert not answer.handed.continued.opened
    assert answer.handed.why == "watch: log odds -1.00 by the first token"


@pytest.mark.parametrize(
    ("reason", "stop_reason", "fired"),
    [("stop", "a stop text", 1), ("length", None, 1), ("stop", None, 1), ("stop", STOP, 0), ("stop", 11, 1)],
    ids=["stop text", "length", "the model's end", "not fired", "another stop token"],
)
async def test_every_other_end_is_an_end(house, reason, stop_reason, fired):
    answer, heard = await house.ask(BODY | {"stop": ["a stop text"]})
    house.write(3, fired=fired)
    heard.heard("abc", 3, reason, stop_reason, NONE_CACHED)
    assert answer.handed is None
    assert answer.ended[0].completion_tokens == 3
    assert answer.ended[2].tokens == 3
    assert house.free == 2


async def test_where_the_models_own_end_stops_rows_its_token_is_not_counted(house):
    house.way.watches = Watches(house.table, stop_is_end=True)
    answer, heard = await house.ask(watch=b'{"statistic": "tokens", "knots": [[2, 0]]}')
    house.write(4, fired=1)
    heard.heard("abc", 4, "stop", None, NONE_CACHED)
    assert (answer.handed.tokens, answer.handed.usage.completion_tokens) == (3, 3)


async def test_an_abort_frees_the_slot(house):
    await house.ask()
    assert house.free == 1
    house.stop()
    assert house.free == 2
    await until(lambda: bool(house.engine.aborted))


async def test_an_abort_before_the_engine_has_it_frees_the_slot(house):
    answer = Answer()
    stop = house.way.start(Submit(id=1, kind="completions", body=json.dumps(BODY).encode(), watch=b"{}"), answer)
    stop()
    await until(lambda: bool(house.engine.aborted))
    assert house.free == 2
    assert not house.outputs.listeners


async def test_the_engines_death_frees_the_slot(house):
    answer, heard = await house.ask()
    heard.put(RuntimeError("EngineCore died"))
    assert "EngineCore died" in answer.failed.body.decode()
    assert house.free == 2


async def test_what_vllm_refuses_goes_on_unwatched(house):
    async def refuse(*args, **more):
        raise ValueError("no")

    house.engine.add_request = refuse
    await house.ask()
    assert len(house.slow) == 1
    assert house.free == 2


async def test_several_choices_are_not_watched(house):
    answer = Answer()
    house.way.start(
        Submit(id=1, kind="completions", body=json.dumps(BODY | {"n": 2, "temperature": 1}).encode(), watch=b"{}"),
        answer,
    )
    await until(lambda: bool(house.engine.asked))
    assert house.sampling.extra_args is None
    assert house.free == 2


async def test_what_is_full_is_answered_unwatched(house):
    for _ in range(2):
        await house.ask()
    await house.ask()
    assert house.sampling.extra_args is None
