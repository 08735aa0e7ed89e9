"""A Llama whose layers lie stacked in a few tensors: quick to train on a CPU, simple to deepen, saved as any Llama.

Shapes: L layers, D hidden, I intermediate; heads of 32, as many as fill D. Knows no task and no optimizer.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

HEAD = 32  # the smallest head that vLLM's attention takes on a CPU
EPSILON = 1e-5
THETA = 10000.0


class Shape(NamedTuple):
    """What `config.json` will say."""

    layers: int
    hidden: int
    intermediate: int
    vocabulary: int = 512
    context_tokens: int = 512


class Stack(nn.Module):
    """The weights of all layers, one tensor a kind. Embeddings are tied."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        n, d, i = shape.layers, shape.hidden, shape.intermediate
        self.embed = nn.Parameter(torch.randn(shape.vocabulary, d) * 0.5 * d**-0.5)
        self.qkv = nn.Parameter(torch.randn(n, 3, d, d) * 0.5 * d**-0.5)
        self.out = nn.Parameter(torch.zeros(n, d, d))
        self.gate_up = nn.Parameter(torch.randn(n, 2, i, d) * 0.5 * d**-0.5)
        self.down = nn.Parameter(torch.zeros(n, d, i))
        self.before_attention = nn.Parameter(torch.ones(n, d))
        self.before_mlp = nn.Parameter(torch.ones(n, d))
        self.last = nn.Parameter(torch.ones(d))

    def matrices(self) -> list[nn.Parameter]:
        """What Muon trains."""
        return [self.qkv, self.out, self.gate_up, self.down]

    def vectors(self) -> list[nn.Parameter]:
        """The embedding and the norms."""
        return [self.embed, self.before_attention, self.before_mlp, self.last]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Hidden states behind the last norm, [rows, tokens, D], of token ids [rows, tokens]."""
        x = self.embed[ids]
        turn = rotation(ids.size(1))
        norms = (self.before_attention, self.before_mlp)
        layers = zip(*(weights.unbind() for weights in (*self.matrices(), *norms)), strict=True)
        for qkv, out, gate_up, down, before_attention, before_mlp in layers:
            x = block(x, *turn, qkv.flatten(0, 1), out, gate_up.flatten(0, 1), down, before_attention, before_mlp)
        return F.rms_norm(x, self.last.shape, self.last, EPSILON)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., vocabulary]"""
        return hidden @ self.embed.T


def rotation(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of the rotary embedding, each [tokens, HEAD]."""
    angles = torch.outer(torch.arange(tokens), THETA ** -(torch.arange(0, HEAD, 2) / HEAD)).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of [..., tokens, HEAD], halves as pairs, as Llama has it."""
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat((-right, left), -1) * sin


def block(
    x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, qkv: torch.Tensor, out: torch.Tensor,
    gate_up: torch.Tensor, down: torch.Tensor, before_attention: torch.Tensor, before_mlp: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """One layer."""
    rows, tokens, hidden = x.shape
    y = F.linear(F.rms_norm(x, before_attention.shape, before_attention, EPSILON), qkv)
    q, k, v = y.view(rows, tokens, 3, hidden // HEAD, HEAD).permute(2, 0, 3, 1, 4)
    seen = F.scaled_dot_product_attention(rotated(q, cos, sin), rotated(k, cos, sin), v, is_causal=True)
    x = x + F.linear(seen.transpose(1, 2).reshape(rows, tokens, hidden), out)
    gate, up = F.linear(F.rms_norm(x, before_mlp.shape, before_mlp, EPSILON), gate_up).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, down)


@torch.no_grad()
def deepened(stack: Stack, copies: int) -> Stack:
    """Each layer followed by `copies - 1` copies that add nothing yet: the same function, `copies` times as deep."""
    deep = Stack(stack.shape._replace(layers=stack.shape.layers * copies))
    for name, old in stack.named_parameters():
        new = dict(deep.named_parameters())[name]
        new.copy_(old if new.shape == old.shape else old.repeat_interleave(copies, 0))
    added = torch.arange(deep.shape.layers) % copies != 0
    deep.out[added] = 0
    deep.down[added] = 0
    return deep


@torch.no_grad()
def as_llama(stack: Stack, end_id: int) -> LlamaForCausalLM:
    """The same model in transformers' layout, float32."""
    shape = stack.shape
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers, num_attention_heads=shape.hidden // HEAD,
        num_key_value_heads=shape.hidden // HEAD, max_position_embeddings=shape.context_tokens,
        rms_norm_eps=EPSILON, rope_parameters={"rope_type": "default", "rope_theta": THETA}, tie_word_embeddings=True,
        pad_token_id=0, bos_token_id=None, eos_token_id=end_id,
    )  # fmt: skip
    named = {"model.embed_tokens.weight": stack.embed, "model.norm.weight": stack.last, "lm_head.weight": stack.embed}
    for i in range(shape.layers):
        layer = f"model.layers.{i}."
        for part, matrix in zip("qkv", stack.qkv[i], strict=True):
            named[f"{layer}self_attn.{part}_proj.weight"] = matrix
        named[f"{layer}self_attn.o_proj.weight"] = stack.out[i]
        named[f"{layer}mlp.gate_proj.weight"], named[f"{layer}mlp.up_proj.weight"] = stack.gate_up[i]
        named[f"{layer}mlp.down_proj.weight"] = stack.down[i]
        named[f"{layer}input_layernorm.weight"] = stack.before_attention[i]
        named[f"{layer}post_attention_layernorm.weight"] = stack.before_mlp[i]
    model = LlamaForCausalLM(config)
    model.load_state_dict(named)
    return model.eval()
