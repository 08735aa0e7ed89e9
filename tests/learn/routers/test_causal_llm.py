"""Verdicts collected from a scripted judge behind HTTP, kept, taken up again; and the lines fitted to them."""

import json
import os
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from router import heads
from router.errors import ConfigError
from router.heads import Claim
from router.learn import routers
from router.learn.data.corpus import join
from router.learn.data.outcomes import read
from router.learn.evaluate.served import fitted, held_out
from router.learn.fit.recipe import SIZES
from router.learn.routers.causal_llm import SLOPE, line
from router.learn.routers.verdicts import JudgeOptions, collect

COLUMNS = np.array([0, 1])  # tiny, big


class Judge:
    """Says 5 of short sums, 1 of long ones and 2 of riddles; what it refuses, `status` tells."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.status = lambda query: 200
        self.models: set[str] = set()
        self.keys: set[str | None] = set()
        judge = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send(200, {"data": [{"id": "judge-7b", "object": "model"}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                query = body["messages"][0]["content"].partition("Question:\n")[2].removesuffix("\n\nDigit:")
                judge.models.add(body["model"])
                judge.keys.add(self.headers["authorization"])
                status = judge.status(query)
                judge.asked[query] += 1
                if status != 200:
                    self._send(status, {"error": {"message": f"no to {query[:10]!r}", "type": "scripted"}})
                    return
                score = "2" if "riddle" in query else "5" if max(map(len, query.split())) <= 4 else "1"
                top = [{"token": score, "logprob": -0.1}, {"token": "3", "logprob": -2.5}]
                choice = {"index": 0, "logprobs": {"content": [{**top[0], "top_logprobs": top}]}}
                self._send(200, {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})

            def _send(self, status: int, answer: object) -> None:
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def judge():
    judge = Judge()
    yield judge
    judge.close()


@pytest.fixture(scope="module")
def corpus(table):
    return join([read(table)])


@pytest.fixture
def options(judge, tmp_path):
    return {"judge": judge.url, "cache": str(tmp_path / "verdicts.jsonl"), "parallel": 4}


TEXTS = ["What is 1 + 2?", "What is 12345 + 2?", "Why is 7 like 9 in riddle 3?", "What is 1 + 2?"]


def test_each_text_is_asked_about_once(judge, options):
    told = []
    verdicts = collect(TEXTS, JudgeOptions(**options), lambda: told.append(1))
    weight = np.exp([-0.1, -2.5])
    expected = [(score * weight[0] + 3 * weight[1]) / weight.sum() for score in (5, 1, 2, 5)]
    np.testing.assert_allclose(verdicts, expected, rtol=1e-6)
    assert judge.asked == Counter(set(TEXTS))
    assert judge.models == {"judge-7b"}
    assert len(told) == len(TEXTS)
    np.testing.assert_array_equal(collect(TEXTS, JudgeOptions(**options)), verdicts)
    assert judge.asked == Counter(set(TEXTS))  # nothing is asked again


def test_a_run_that_was_cut_short_goes_on(judge, options, tmp_path):
    judge.status = lambda query: 503 if "riddle" in query else 200
    options = JudgeOptions(**{**options, "parallel": 1})
    with pytest.raises(ConfigError, match=r"no to 'Why is 7 l'; 2 verdicts are kept in .*verdicts\.jsonl"):
        collect(TEXTS, options)
    cache = tmp_path / "verdicts.jsonl"
    cache.write_bytes(cache.read_bytes() + b'{"key": "cut sh')  # as a killed process leaves it
    judge.status = lambda query: 200
    assert np.isfinite(collect(TEXTS, options)).all()
    assert judge.asked["What is 1 + 2?"] == 1
    assert len(cache.read_text().splitlines()) == 3


def test_what_the_judge_refuses_or_does_not_score_is_remembered_as_such(judge, options):
    judge.status = lambda query: 400 if "riddle" in query else 200
    for _ in range(2):
        verdicts = collect(TEXTS, JudgeOptions(**options))
        assert np.isnan(verdicts).tolist() == [False, False, True, False]
    assert judge.asked[TEXTS[2]] == 1


def test_another_question_is_not_answered_from_what_was_kept(judge, options):
    collect(TEXTS[:1], JudgeOptions(**options))
    template = "Guess.\n\nQuestion:\n{query}\n\nDigit:"
    collect(TEXTS[:1], JudgeOptions(**options, template=template))
    assert judge.asked[TEXTS[0]] == 2


def test_a_broken_line_is_refused_by_its_number(options, tmp_path):
    (tmp_path / "verdicts.jsonl").write_text('{"key": "a", "verdict": 1.0}\n{"key": 3}\n')
    with pytest.raises(ConfigError, match=r"verdicts\.jsonl:2: expected a verdict"):
        collect(TEXTS, JudgeOptions(**options))


def test_it_learns_what_verdicts_mean(judge, options, corpus):
    trainer = routers.make("causal_llm", corpus, SIZES["small"], options)
    folds, steps = np.arange(len(corpus.prompts)) % 2, []
    quality = 1 / (1 + np.exp(-held_out(trainer, corpus, folds, lambda: steps.append(1))))
    assert len(steps) == 2 * trainer.steps()
    assert max(judge.asked.values()) == 1
    right = corpus.scores[:, 0] > 0.5
    assert quality[right, 0].mean() - quality[~right, 0].mean() > 0.3


def test_the_served_decision_is_the_evaluated_one(options, corpus, tmp_path):
    """From the file with the verdicts of training, and by an answer of the judge to the same prompt."""
    trainer = routers.make("causal_llm", corpus, SIZES["small"], options)
    made = fitted(trainer, np.ones(len(corpus.prompts), bool), COLUMNS)
    heads.write(tmp_path / "j.safetensors", made)
    claims = [Claim(name="a", like="tiny"), Claim(name="b", like="big")]
    served, evaluated = heads.load(tmp_path / "j.safetensors", claims), heads.make(made, claims)
    texts = [prompt.text for prompt in corpus.prompts[:40]]
    np.testing.assert_array_equal(served.score_many(texts), evaluated.score_many(texts))
    short = next(text for text in texts if "riddle" not in text and max(map(len, text.split())) <= 4)
    top = [{"token": "5", "logprob": -0.1}, {"token": "3", "logprob": -2.5}]
    answer = json.dumps({"choices": [{"logprobs": {"content": [{**top[0], "top_logprobs": top}]}}]}).encode()
    asked = served.score_by(((short, 1.0),), answer)
    np.testing.assert_allclose(asked.quality, evaluated.score_many([short])[0], atol=1e-6)


def test_a_line_rises_or_is_flat():
    draw = np.random.default_rng(0)
    above = draw.uniform(-2, 2, 2000)
    weights = np.ones(2000, np.float32)
    scores = (draw.random(2000) < 1 / (1 + np.exp(-(0.7 + 1.3 * above)))).astype(np.float32)
    assert line(above, scores, weights, 0.5) == pytest.approx((0.7, 1.3), abs=0.15)
    bias, slope = line(above, 1 - scores, weights, 0.5)
    assert slope == 0.0
    assert 1 / (1 + np.exp(-bias)) == pytest.approx(1 - scores.mean(), abs=0.01)
    assert line(above, scores, 0 * weights, 0.8) == pytest.approx((np.log(4), SLOPE))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "option judge: expected the judge's URL or the path of its weights"),
        ({"judge": "x", "jugde": 1}, "option jugde: expected one of judge, model"),
        ({"judge": "http://127.0.0.1:9", "template": "none"}, r"option template: expected a text with \{query\}"),
    ],
)
def test_a_refused_option_is_named(corpus, options, match):
    with pytest.raises(ConfigError, match=match):
        routers.make("causal_llm", corpus, SIZES["small"], options)


def test_a_key_is_a_reference(judge, options, monkeypatch):
    with pytest.raises(ConfigError, match=r"option api_key: expected \$\{NAME\} of an environment variable"):
        collect(TEXTS, JudgeOptions(**options, api_key="sk-secret"))
    with pytest.raises(ConfigError, match=r"option api_key: environment variable 'JUDGE_KEY_NOT_SET' is not set"):
        collect(TEXTS, JudgeOptions(**options, api_key="${JUDGE_KEY_NOT_SET}"))
    monkeypatch.setitem(os.environ, "JUDGE_KEY", "sk-secret")
    collect(TEXTS, JudgeOptions(**options, api_key="${JUDGE_KEY}"))
    assert judge.keys == {"Bearer sk-secret"}


def test_a_judge_that_is_not_there(corpus, tmp_path):
    options = JudgeOptions(judge="http://127.0.0.1:9", cache=str(tmp_path / "v.jsonl"))
    with pytest.raises(ConfigError, match=r"causal_llm: http://127\.0\.0\.1:9: .*does not answer"):
        collect(TEXTS, options)
