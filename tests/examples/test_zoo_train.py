"""The zoo's training: stacked layers are a Llama, deepening changes no answer, a stopped stage goes on."""

import random

import lexicon
import pytest
import stack
import tasks
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = stack.Shape(2, 32, 64)


@pytest.fixture(scope="module")
def tokenizer():
    return lexicon.build()


@pytest.fixture
def scrambled():
    """A stack in which every weight matters."""
    torch.manual_seed(3)
    made = stack.Stack(TINY)
    for weights in (made.out, made.down):
        torch.nn.init.normal_(weights, std=0.2)
    for weights in (made.before_attention, made.before_mlp, made.last):
        torch.nn.init.uniform_(weights, 0.5, 1.5)
    return made


def stage(training, **changes):
    return training.Stage(4, TINY, rows=12)._replace(**changes)


def test_stack_computes_what_transformers_computes(scrambled):
    ids = torch.randint(0, 512, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours = scrambled.logits(scrambled(ids))
        theirs = stack.as_llama(scrambled, lexicon.END_ID)(ids).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_deepened_stack_says_the_same_and_every_layer_can_learn(scrambled):
    deep = stack.deepened(scrambled, 3)
    ids = torch.randint(0, 512, (2, 24), generator=torch.Generator().manual_seed(1))
    assert deep.shape.layers == 6
    torch.testing.assert_close(deep(ids), scrambled(ids), rtol=1e-4, atol=1e-5)
    deep.logits(deep(ids)).logsumexp(-1).sum().backward()
    assert (deep.out.grad.flatten(1).norm(dim=1) > 0).all()
    assert (deep.down.grad.flatten(1).norm(dim=1) > 0).all()


def test_only_answers_are_labelled(training, tokenizer):
    rows = training.drawn(random.Random(1), training.Chances((1, 1, 1, 1)), 20, tokenizer)
    seen = 0
    for ids, labels, cells in training.parts(rows):
        assert ids.shape == labels.shape
        assert len(cells) == len(ids)
        for row, wanted in zip(ids.tolist(), labels.tolist(), strict=True):
            kept = [label for label in wanted if label != training.IGNORED]
            first = wanted.index(kept[0])
            assert kept[-1] == lexicon.END_ID
            assert row[first : first + len(kept)] == kept
            assert tokenizer.decode(kept).count(tasks.LAST) == 1
            seen += 1
    assert seen == 20


def test_training_draws_no_test_question(training, tokenizer, monkeypatch):
    asked = []
    draw = tasks.draw
    monkeypatch.setattr(tasks, "draw", lambda *args: asked.append(draw(*args)) or asked[-1])
    training.drawn(random.Random(1), training.Chances((1, 1, 1, 1)), 50, tokenizer)
    assert {question.split for question in asked} == {"train"}
    assert len(asked) == 50


def test_answer_costs_the_nats_of_its_tokens(training, scrambled):
    ids = torch.tensor([[7, 8, 9, 10], [7, 8, 0, 0]])
    ignored = training.IGNORED
    labels = torch.tensor([[ignored, ignored, 9, 10], [ignored, 8, ignored, ignored]])
    with torch.inference_mode():
        logs = scrambled.logits(scrambled(ids)).log_softmax(-1)
        nats = training.answer_nats(scrambled, ids, labels)
    assert nats.tolist() == pytest.approx([-(logs[0, 1, 9] + logs[0, 2, 10]).item(), -logs[1, 0, 8].item()], rel=1e-4)


def test_cells_with_dear_answers_are_drawn_more_often(training):
    chances = training.Chances((1, 1, 1, 1))
    for _ in range(100):
        chances.learn([0], [0.0])
    weights = chances.weights()
    assert 0 < weights[0] < 0.2 * weights[1]
    assert 0.04 < chances.right() < 0.1  # one cell of 24 is solved


def test_level_waits_for_the_one_below(training):
    chances = training.Chances((1, 1, 1, 1))
    at_first = chances.weights()
    assert at_first[1] < 0.2 * at_first[0]
    for _ in range(100):
        chances.learn([0], [0.0])
    assert chances.weights()[1] == pytest.approx(3.2, rel=0.05)
    assert chances.weights()[2:] == at_first[2:]


def test_rate_rises_holds_and_falls(training):
    made = stage(training, steps=100, cooled=0.4)
    assert training.share(made, 0) < 0.05
    assert training.share(made, 30) == training.share(made, 60) == 1.0
    assert training.share(made, 90) == pytest.approx(0.25)
    assert training.share(made._replace(cooled=0), 99) == 1.0


def test_a_few_steps_lower_the_loss(training, tokenizer, tmp_path):
    made = stage(training, steps=30)
    before = training.begun("tiny", made, tmp_path, 1)
    rows = training.drawn(random.Random(1), before.chances, 30, tokenizer)
    batches = list(training.parts(rows))

    def nats(model):
        with torch.inference_mode():
            return sum(training.answer_nats(model, ids, labels).sum().item() for ids, labels, _ in batches)

    at_first = nats(before.stack)
    assert nats(training.train("tiny", made, tokenizer, tmp_path, 1, show=False).stack) < 0.7 * at_first


def test_stopped_stage_goes_on_as_if_it_had_not_stopped(training, tokenizer, tmp_path):
    made = stage(training, steps=6)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    for folder in (whole, halves):
        folder.mkdir()
    once = training.train("tiny", made, tokenizer, whole, 1, show=False)
    stopped = training.begun("tiny", made, halves, 1)
    for step in range(3):
        stopped.take(random.Random(f"1 tiny {step}"), tokenizer)
    stopped.save(halves / "tiny.pt")
    again = training.train("tiny", made, tokenizer, halves, 1, show=False)
    assert again.step == once.step == 6
    assert again.chances.nats == once.chances.nats
    for one, other in zip(once.stack.parameters(), again.stack.parameters(), strict=True):
        assert torch.equal(one, other)


def test_stage_begins_with_the_weights_of_the_one_before_deepened(training, tokenizer, tmp_path):
    trunk = training.train("trunk", stage(training), tokenizer, tmp_path, 1, show=False)
    deep = training.begun("deep", stage(training, shape=None, start="trunk", copies=2), tmp_path, 1)
    assert deep.stack.shape.layers == 4
    assert torch.equal(deep.stack.qkv[::2], trunk.stack.qkv)


def test_saved_model_loads_and_says_the_same(training, tokenizer, scrambled, tmp_path):
    size = training.save(scrambled, tokenizer, tmp_path / "tiny")
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "tiny", dtype=torch.float32)
    assert size == sum(path.stat().st_size for path in (tmp_path / "tiny").iterdir())
    ids = torch.tensor([tokenizer.encode(lexicon.render("12+71=")).ids])
    with torch.inference_mode():
        torch.testing.assert_close(loaded(ids).logits, scrambled.logits(scrambled(ids)), rtol=0.1, atol=0.1)
    told = AutoTokenizer.from_pretrained(tmp_path / "tiny").apply_chat_template(
        [{"role": "user", "content": "12+71="}], tokenize=False, add_generation_prompt=True
    )
    assert told == lexicon.render("12+71=")
