"""Chat request bodies that differ from one another, the same at every run."""

import json
import random

_VOCABULARY = """
    time people water number part sound place year work name help line differ turn cause much mean before move right
    boy old too same tell does set three want air well also play small end put home read hand port large spell add
    even land even here must big high such follow act why ask men change went light kind off need house picture try
    again animal point mother world near build self earth father head stand own page should country found answer
    school grow study still learn plant cover food sun four between state keep function integral theorem protein
    voltage contract republic derivative electron capital treaty enzyme probability
"""


def texts(count: int, words: int, *, seed: int = 0) -> list[str]:
    """`count` different prompts of `words` words."""
    draw, vocabulary = random.Random(seed), _VOCABULARY.split()
    return [" ".join(draw.choices(vocabulary, k=words)) for _ in range(count)]


def chat(text: str, *, model: str = "auto", **fields: object) -> bytes:
    """A chat completion request with one user turn."""
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **fields}).encode()
