"""The tokenizer that the zoo's models share, and how a question is put to them.

Built as the pair's is (byte-level BPE, each digit a token), on the zoo's own questions; the same chat template.
"""

import random
from collections.abc import Iterator

from borrowed import vocabulary
from tasks import LEVELS, TASKS
from tokenizers import Tokenizer

END_ID = vocabulary.SPECIALS.index(vocabulary.END)


def corpus() -> Iterator[str]:
    """What the merges are learnt from: questions with their answers, and the pair's prose."""
    rng = random.Random(2)
    for _ in range(300):
        for make in TASKS.values():
            question = make(rng, rng.choice(LEVELS))
            yield f"{question.prompt} {question.answer}"
    yield from (vocabulary.PROSE for _ in range(50))


def build() -> Tokenizer:
    """The tokenizer, from nothing; the same every time."""
    return vocabulary.build(corpus())


def render(prompt: str) -> str:
    """The prompt as the chat template writes it, up to the answer."""
    return f"{vocabulary.USER}{prompt}{vocabulary.END}{vocabulary.ASSISTANT}"
