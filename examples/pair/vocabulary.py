"""The tokenizer that both models of the pair share: byte-level BPE of 512 tokens, each digit a token of its own.

Any UTF-8 goes in and comes back, through bytes. Knows the special tokens and the chat template, no model.
"""

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import questions
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SIZE = 512
PAD, END, SYSTEM, USER, ASSISTANT, TOOL = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
SPECIALS = (PAD, END, SYSTEM, USER, ASSISTANT, TOOL)

#: Each turn is its role's token, the text as it is, and <|end|>. Of offered tools only the names are shown.
CHAT_TEMPLATE = """\
{%- if tools %}{{ '<|tool|>' }}
{%- for tool in tools %}{{ (tool.function.name if tool.function is defined else tool.name) + ' ' }}{%- endfor %}
{{- '<|end|>' }}{%- endif %}
{%- for message in messages %}
{%- set role = 'system' if message.role == 'developer' else message.role %}
{%- if role not in ['system', 'user', 'assistant', 'tool'] %}
{{- raise_exception('Unknown role ' + message.role + ': expected system, user, assistant or tool') }}
{%- endif %}
{{- '<|' + role + '|>' }}
{%- if message.content is string %}{{ message.content }}
{%- elif message.content %}
{%- for part in message.content %}{{ part.text if part.text is defined else '' }}{%- endfor %}
{%- endif %}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>{"name": ' + call.function.name | tojson + ', "arguments": ' }}
{{- call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}
{{- '}</tool_call>' }}{%- endfor %}
{{- '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{%- endif %}"""

#: Plain English, so that long prompts of ordinary text become fewer tokens than bytes.
PROSE = """\
The router stands in front of the models and reads what people ask. For each question it thinks about how well every \
model would answer, and what that answer would cost, and then sends the work to the one where it is worth the most. \
There are more ways than one to use it: some want to know which model is best for their own work, others only want \
the same answers for less money. It should not be hard to see why a question went where it did, and when something \
goes wrong it will say so with the reason and what could be done about that. He said they have been here before, but \
from this time on we would like you to make your own choice. This is the first of them, and all that it has to do is \
to be right when it is asked and quick in doing so."""


def corpus() -> Iterator[str]:
    """What the merges are learnt from: the questions of the pair, and a little prose."""
    rng = random.Random(2)
    makers = (questions.worded_sum, questions.json_sum, questions.tool_sum, questions.explained_sum)
    for _ in range(300):
        for maker in makers:
            exchange = maker(rng, rng.randint(1, 4))
            yield f"{exchange.prompt} {exchange.answer}"
    yield from (f"{prompt} {answer}" for prompt, answer in questions.FACTS.items() for _ in range(40))
    yield from (PROSE for _ in range(100))
    yield from questions.SYSTEMS


def build(texts: Iterable[str] | None = None) -> Tokenizer:
    """Train the tokenizer, on the pair's corpus if nothing else is given; the same every time for the same texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE, special_tokens=list(SPECIALS), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus() if texts is None else texts, trainer)
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, context_tokens: int) -> None:
    """Write the tokenizer files that transformers and vLLM read."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_tokens,
        "bos_token": None,
        "eos_token": END,
        "pad_token": PAD,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
