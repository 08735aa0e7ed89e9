"""Which engines take the watch, and what they are told."""

import logging
import os
from types import SimpleNamespace

import pytest

from router.host.watch import install as module
from router.host.watch.install import PROCESSORS, install, open_watches
from router.host.watch.table import VARIABLE, WatchTable


def config(*, v2=False, speculative=None, processors=None, **model):
    known = {"runner_type": "generate", "get_vocab_size": lambda: 300, "logits_processors": processors}
    return SimpleNamespace(
        use_v2_model_runner=v2, speculative_config=speculative, model_config=SimpleNamespace(**known | model)
    )


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    return str(tmp_path / "m.sock.watch")


@pytest.mark.parametrize(("v2", "runner"), [(False, 1), (True, 2)])
def test_the_class_is_that_of_the_engines_runner_behind_the_users_own(path, monkeypatch, v2, runner):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    at = config(v2=v2, processors=["users.own:Class"])
    table = install(at, path)
    assert at.model_config.logits_processors == ["users.own:Class", PROCESSORS[runner]]
    assert (table.vocabulary, table.slots, table.firsts) == (300, 1024, 300)
    assert os.environ[VARIABLE] == path


@pytest.mark.parametrize(
    ("at", "why"),
    [
        (config(runner_type="pooling"), "the model generates no text"),
        (config(speculative=object()), "the engine speculates"),
        (config(return_sampling_mask=True), "the engine returns its sampling masks"),
        (config(v2=True), "this vLLM would fall back to its older model runner"),
    ],
)
def test_an_engine_that_takes_none_or_would_be_worse_for_it_is_left_as_it_is(path, monkeypatch, caplog, at, why):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, "headgate.host"):
        assert install(at, path) is None
    assert f"answers are not watched: {why}" in caplog.text
    assert at.model_config.logits_processors is None
    assert os.environ[VARIABLE] == ""
    assert not os.path.exists(path)


def test_a_table_that_cannot_be_made_leaves_the_engine_unwatched(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(VARIABLE, "")
    at = config()
    assert install(at, str(tmp_path / "none" / "x")) is None
    assert "No such file or directory" in caplog.text
    assert at.model_config.logits_processors is None


class Tokenizer:
    """Byte-level, of 8 tokens; as transformers has it."""

    eos_token_id = 7

    def __init__(self, special=("<pad>", "<end>")):
        from tokenizers import AddedToken, decoders, models
        from tokenizers import Tokenizer as Fast

        texts = ["a", "Ġthe", "Ġof", "b", "c", "d"]
        self.backend_tokenizer = Fast(models.BPE(vocab={text: at for at, text in enumerate(texts)}, merges=[]))
        self.backend_tokenizer.decoder = decoders.ByteLevel()
        self.backend_tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
        self.all_special_tokens = list(special)
        self.all_special_ids = [6, 7][: len(special)]

    def get_vocab(self):
        return self.backend_tokenizer.get_vocab()


def engine(tokenizer, ends=7):
    return SimpleNamespace(
        renderer=SimpleNamespace(tokenizer=tokenizer),
        model_config=SimpleNamespace(hf_config=SimpleNamespace(eos_token_id=ends)),
    )


@pytest.mark.parametrize(
    ("vocabulary", "template", "stops", "stop", "hidden"),
    [
        (12, "", [], 11, 11),  # one that the tokenizer has not
        (8, "", [], 6, 6),  # <pad>
        (8, "<pad>{{ x }}", [], 7, -1),  # the model's own end has to do
        (8, "", [6], 7, -1),
    ],
)
def test_the_engine_is_told_of_its_vocabulary(path, vocabulary, template, stops, stop, hidden):
    table = WatchTable.create(path, vocabulary)
    watches = open_watches(table, engine(Tokenizer()), template, stops)
    assert (table.ready, table.stop, table.hidden) == (True, stop, hidden)
    assert watches.stop_is_end == (hidden == -1)
    assert table.places[:8].tolist() == [0, 1, 1, 0, 0, 0, 4, 4]
    assert watches.text_of(1) == " the"
    assert watches.text_of(6) == watches.text_of(99) == ""


def test_a_model_without_any_token_to_end_by_is_not_watched(path, caplog):
    tokenizer = Tokenizer()
    tokenizer.eos_token_id = None
    table = WatchTable.create(path, 8)
    assert open_watches(table, engine(tokenizer, ends=None), "<pad><end>", []) is None
    assert not table.ready
    assert "the model has no token that can end one" in caplog.text
