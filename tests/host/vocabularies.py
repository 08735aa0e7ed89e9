"""Tokenizers of three kinds, small and trained here: as GPT-2's, as Qwen's (cl100k's rules), as SentencePiece's."""

from functools import cache

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

#: Prose, code, lists, other scripts, runs of blanks and newlines.
TEXTS = (
    "The sum of 12 and 30 is 42. So the answer, as we said above, is 42.\n\nWould you like another one?  Yes, please!",
    "def add(a, b):\n    # the sum\n    return a + b\n\n\nprint(add(1, 2))\n",
    "1. First, take the train.\n2. Then walk   to the house;\n\n- it's blue\n- don't knock\n",
    "Größe und Maß: ein naïver Café-Besuch kostet 3,50 €. Ça va? Добрый день, как дела? Хорошо.",
    "日本語の文章には空白がありません。とても長い文です。中文也一样：没有空格。",
    "Nice \U0001f642\U0001f680 work... see\thttps://example.org/a_b?c=d&e=f \r\n  'quoted' \"text\" (x) [y] {z}\n",
    "while True:\n\tx = [i ** 2 for i in range(10)]\n\tif not x: break\n\nThe list holds the squares of the numbers.",
)
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SIZE = 520
KINDS = ("gpt2", "qwen", "sentencepiece")


@cache
def tokenizer(kind: str) -> Tokenizer:
    if kind == "sentencepiece":
        return _sentencepiece()
    made = Tokenizer(models.BPE())
    if kind == "gpt2":
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        split = pre_tokenizers.Split(Regex(_CL100K), "isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=_SIZE, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(TEXTS * 3, trainer)
    made.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", "</s>", "<|end|>")])
    return made


def _sentencepiece() -> Tokenizer:
    """As Llama's first: a blank before each text, bytes for characters that it does not have."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "\u2581")
    trained.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    trained.train_from_iterator(TEXTS[:3] * 3, trainers.BpeTrainer(vocab_size=_SIZE - 256, show_progress=False))
    pieces = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    order = [*(f"<0x{byte:02X}>" for byte in range(256)), *(piece for piece, _ in pieces if piece != "\n")]
    vocabulary = {"<unk>": 0} | {piece: place for place, piece in enumerate(order, 1)}
    merges = [tuple(merge) for merge in _merges(trained) if "\n" not in "".join(merge)]
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([AddedToken(name, special=True) for name in ("<s>", "</s>", "<|end|>")])
    return made


def _merges(trained: Tokenizer) -> list[tuple[str, str]]:
    import json

    found = json.loads(trained.to_str())["model"]["merges"]
    return [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in found]
