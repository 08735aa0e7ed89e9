"""What every test may use: waiting on a busy machine, the repository's root and, where it lies beside the clone, the
shared labels."""

import asyncio
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import hypothesis
import pytest

# A busy machine is no counterexample.
hypothesis.settings.register_profile("headgate", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("headgate")

ROOT = Path(__file__).resolve().parent.parent
# What reads and draws the imports is no test, but a program beside them.
sys.path.insert(0, str(ROOT / "tests" / "house"))

#: An event is waited for as long as this. Only a test that fails waits so long, and a busy machine fails none.
PATIENCE_S = 60.0
#: A program that computes or starts an engine has longer: it is stopped where it hangs, not where it is slow.
WORK_S = 900.0
_LOOK_S = 0.005

T = TypeVar("T")


def patience() -> asyncio.Timeout:
    """The bound of an `await` that has none itself."""
    return asyncio.timeout(PATIENCE_S)


async def until(condition: Callable[[], T], seen: Callable[[], object] | None = None) -> T:
    """What `condition` returns once it is true. Fails after a minute with what `seen`, or else it, said last."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        late = time.monotonic() >= give_up  # first: whoever gets no processor for a minute still has a last look
        if found := condition():
            return found
        if late:
            _fail(found if seen is None else seen())
        await asyncio.sleep(_LOOK_S)


def wait_until(condition: Callable[[], T], seen: Callable[[], object] | None = None) -> T:
    """`until`, for tests without an event loop."""
    give_up = time.monotonic() + PATIENCE_S
    while True:
        late = time.monotonic() >= give_up
        if found := condition():
            return found
        if late:
            _fail(found if seen is None else seen())
        time.sleep(_LOOK_S)


def _fail(seen: object) -> NoReturn:
    pytest.fail(f"it did not happen within {PATIENCE_S:g} s; seen last: {seen}")


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The servers of tests keep what starts took here, not in the cache of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("HEADGATE_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The labels folder; tests that need it skip on a user's clone, which has none."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared labels do not lie beside this clone")
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the Hugging Face hub would give it: a BERT of two small layers that knows sums and riddles."""
    tokenizers, transformers, torch = (pytest.importorskip(name) for name in ("tokenizers", "transformers", "torch"))
    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "what", "why", "is", "like", "in", "riddle", "+", "?"]
    pieces = [*words, *"0123456789", *(f"##{digit}" for digit in "0123456789")]
    model = tokenizers.models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(folder)
    return folder
