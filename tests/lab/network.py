"""The two shapes in plain PyTorch: Qwen-1 (which is Qwen2 by other names) and GPT-2."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder, and which of the two families it belongs to."""

    family: Literal["qwen", "gpt2"]
    vocab_size: int
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    mlp: int = 768
    rope_base: float = 10000.0
    context: int = 1024
    epsilon: float = 1e-6

    def as_dict(self) -> dict[str, object]:
        """Return the shape as a dictionary, for a checkpoint's header."""
        return asdict(self)


Rotary = tuple[Tensor, Tensor] | None


class Attention(nn.Module):
    """Causal self-attention; rotary for Qwen, plain for GPT-2."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.q = nn.Linear(shape.hidden, shape.hidden)
        self.k = nn.Linear(shape.hidden, shape.hidden)
        self.v = nn.Linear(shape.hidden, shape.hidden)
        self.out = nn.Linear(shape.hidden, shape.hidden, bias=shape.family == "gpt2")

    def forward(self, x: Tensor, rotary: Rotary) -> Tensor:
        """Mix the earlier positions into each position."""
        batch, length, hidden = x.shape
        q, k, v = (
            part(x).view(batch, length, self.heads, hidden // self.heads).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        if rotary is not None:
            q, k = rotate(q, rotary), rotate(k, rotary)
        mixed: Tensor = self.out(attend(q, k, v).transpose(1, 2).reshape(batch, length, hidden))
        return mixed


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend by plain operations: on CPU their backward takes a quarter of the fused kernel's time."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    later = torch.full(scores.shape[-2:], float("-inf"), dtype=scores.dtype, device=scores.device).triu_(1)
    return torch.softmax(scores + later, -1, dtype=scores.dtype) @ v


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Apply rotary positions over the two halves of a head."""
    cos, sin = rotary
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


class Block(nn.Module):
    """One layer: attention and MLP, each behind its norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gated = shape.family == "qwen"
        norm = nn.RMSNorm if self.gated else nn.LayerNorm
        self.norm_1 = norm(shape.hidden, eps=shape.epsilon)
        self.attention = Attention(shape)
        self.norm_2 = norm(shape.hidden, eps=shape.epsilon)
        if self.gated:
            self.gate = nn.Linear(shape.hidden, shape.mlp, bias=False)
        self.up = nn.Linear(shape.hidden, shape.mlp, bias=not self.gated)
        self.down = nn.Linear(shape.mlp, shape.hidden, bias=not self.gated)

    def forward(self, x: Tensor, rotary: Rotary) -> Tensor:
        """Return the residual stream after this layer."""
        x = x + self.attention(self.norm_1(x), rotary)
        inner = self.norm_2(x)
        if self.gated:
            inner = functional.silu(self.gate(inner)) * self.up(inner)
        else:
            inner = functional.gelu(self.up(inner), approximate="tanh")
        result: Tensor = x + self.down(inner)
        return result


class Network(nn.Module):
    """A decoder that returns hidden states; the caller applies the head where logits are needed."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        qwen = shape.family == "qwen"
        self.embed = nn.Embedding(shape.vocab_size, shape.hidden)
        self.positions: nn.Embedding | None = None if qwen else nn.Embedding(shape.context, shape.hidden)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = (nn.RMSNorm if qwen else nn.LayerNorm)(shape.hidden, eps=shape.epsilon)
        self.head = nn.Linear(shape.hidden, shape.vocab_size, bias=False)
        if not qwen:
            self.head.weight = self.embed.weight

    @property
    def layers(self) -> list[Block]:
        """List the layers, to read or change their weights."""
        return [block for block in self.blocks if isinstance(block, Block)]

    def forward(self, ids: Tensor) -> Tensor:
        """Return the final hidden states, normed."""
        where = torch.arange(ids.shape[1], device=ids.device)
        x: Tensor = self.embed(ids)
        rotary = None
        if self.positions is not None:
            x = x + self.positions(where)
        else:
            device = ids.device.type
            lower = torch.is_autocast_enabled(device)
            rotary = self.rotary(where, torch.get_autocast_dtype(device) if lower else x.dtype)
        for block in self.blocks:
            x = block(x, rotary)
        final: Tensor = self.norm(x)
        return final

    def rotary(self, where: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Compute cosines and sines of the positions."""
        half = self.shape.hidden // self.shape.heads // 2
        steps = torch.arange(half, device=where.device) / half
        angles = where[:, None] * self.shape.rope_base**-steps
        return angles.cos().to(dtype), angles.sin().to(dtype)
