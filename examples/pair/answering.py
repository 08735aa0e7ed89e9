"""Render exchanges as the chat template does, and answer them greedily with transformers on the CPU.

The training and the outcomes script share it; serving goes through vLLM instead.
"""

from collections.abc import Callable

import torch
import vocabulary
from questions import Exchange
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

LONGEST_ANSWER = 144  # tokens; counting to thirty takes about 90
BATCH = 128


def render(exchange: Exchange) -> str:
    """The prompt as the chat template writes it, up to the answer."""
    tools = f"{vocabulary.TOOL}add {vocabulary.END}" if exchange.tools else ""
    system = f"{vocabulary.SYSTEM}{exchange.system}{vocabulary.END}" if exchange.system else ""
    called = f"{vocabulary.ASSISTANT}{exchange.call}{vocabulary.END}{vocabulary.TOOL}{exchange.result}{vocabulary.END}"
    asked = f"{vocabulary.USER}{exchange.prompt}{vocabulary.END}{called if exchange.call else ''}"
    return f"{tools}{system}{asked}{vocabulary.ASSISTANT}"


@torch.inference_mode()
def answers(
    model: LlamaForCausalLM, tokenizer: Tokenizer, prompts: list[str], progress: Callable[[int], object] = int
) -> list[str]:
    """The answers in the prompts' order; `progress` hears how many more are there. Like lengths share a batch."""
    encoded = [tokenizer.encode(prompt).ids for prompt in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    made = [""] * len(prompts)
    for first in range(0, len(order), BATCH):
        batch = order[first : first + BATCH]
        longest = max(len(encoded[i]) for i in batch)
        ids = torch.tensor([[0] * (longest - len(encoded[i])) + encoded[i] for i in batch])
        out = model.generate(
            input_ids=ids, attention_mask=(ids != 0).long(), max_new_tokens=LONGEST_ANSWER, do_sample=False
        )
        for i, row in zip(batch, out, strict=True):
            made[i] = tokenizer.decode(row[longest:].tolist())
        progress(len(batch))
    return made
