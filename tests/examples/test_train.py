"""The training script: batches label answers alone, a few steps teach something, what is saved loads again."""

import random

import pytest
import questions
import torch
import train
import vocabulary
from muon import Muon, orthogonal
from transformers import AutoTokenizer, LlamaForCausalLM

TINY = train.Recipe(32, 1, 1, 64, 512, (train.SHORT._replace(steps=3, mix={"fact": 1.0}),))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer():
    return vocabulary.build()


def test_only_answers_are_labelled(tokenizer):
    ids, labels = next(train.batches(tokenizer, random.Random(1), train.REST, 512))
    assert ids.shape == labels.shape
    for row, wanted in zip(ids.tolist(), labels.tolist(), strict=True):
        kept = [label for label in wanted if label != train.IGNORED]
        assert kept[-1] == vocabulary.SPECIALS.index(vocabulary.END)
        first = wanted.index(kept[0])
        assert row[first : first + len(kept)] == kept
        assert all(label == train.IGNORED for label in wanted[:first])


def test_batches_hold_about_as_many_tokens_as_asked(tokenizer):
    feed = train.batches(tokenizer, random.Random(1), train.REST, 1024)
    assert all(next(feed)[0].numel() <= 2 * 1024 for _ in range(50))


def test_every_task_of_a_mix_is_drawn_and_its_answer_is_right():
    rng = random.Random(5)
    drawn = [train.draw(rng, train.REST) for _ in range(600)]
    assert {exchange.task for exchange in drawn} == set(train.REST.mix)
    assert all(questions.score(exchange, exchange.answer) == 1.0 for exchange in drawn)


def test_learning_rate_rises_holds_and_falls():
    assert train.rate(0.0) < train.rate(0.01) < train.rate(0.3) == train.rate(0.5) == 1.0
    assert train.rate(0.9) == pytest.approx(0.25)


def test_a_few_steps_lower_the_loss_and_the_seed_decides(tokenizer):
    torch.manual_seed(1)
    batch = next(train.batches(tokenizer, random.Random(1), TINY.lessons[0], 512))
    before = train.loss_of(train.new_model(TINY), *batch).item()
    first, second = (train.fit(train.shortened(TINY, 40), tokenizer, 1, show=False) for _ in range(2))
    assert train.loss_of(first, *batch).item() < 0.7 * before
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_saved_model_loads_and_says_the_same(tokenizer, tmp_path):
    model = train.fit(TINY, tokenizer, 1, show=False)
    size = train.save(model, tokenizer, tmp_path / "tiny")
    loaded = LlamaForCausalLM.from_pretrained(tmp_path / "tiny")
    assert size == sum(path.stat().st_size for path in (tmp_path / "tiny").iterdir())
    assert AutoTokenizer.from_pretrained(tmp_path / "tiny").eos_token == vocabulary.END
    ids = torch.tensor([tokenizer.encode("12+7=").ids])
    with torch.inference_mode():
        torch.testing.assert_close(loaded(ids).logits, model(ids).logits, rtol=0.1, atol=0.05)


def test_orthogonal_update_has_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonal(torch.randn(24, 72, generator=torch.Generator().manual_seed(3))))
    assert 0.6 < values.min() < values.max() < 1.3


def test_muon_moves_against_the_gradient():
    matrix = torch.nn.Parameter(torch.zeros(4, 4))
    matrix.grad = torch.eye(4)
    Muon([matrix], lr=0.1).step()
    assert (matrix.detach().diagonal() < -0.05).all()
