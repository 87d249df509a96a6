"""The rotary network's hidden states with few passes over memory: on a CPU, training waits for these.

The numbers are those of `Network.forward`, but for rounding. The last layer mixes for all positions and
computes the rest for those only whose next token is wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from tests.lab.network import Attention, Block, Network


class _Norm(torch.autograd.Function):
    """Root-mean-square norm."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = size.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_().to(x.dtype)
        normed = x * scale
        ctx.save_for_backward(normed, weight, scale)
        result: Tensor = normed * weight
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        normed, weight, scale = ctx.saved_tensors
        width = normed.shape[-1]
        product = grads[0] * normed
        along = (product @ weight).div_(width).unsqueeze(-1)
        inner = (grads[0] * weight).addcmul_(normed, along, value=-1).mul_(scale)
        return inner, product.reshape(-1, width).sum(0), None


class _Turn(torch.autograd.Function):
    """Rotary positions; the gradient turns back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, sin, -1), None, None


_norm: Any = _Norm.apply
_turn: Any = _Turn.apply


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    turned = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    torch.mul(first, cos, out=turned[..., :half]).addcmul_(second, sin, value=-sign)
    torch.mul(second, cos, out=turned[..., half:]).addcmul_(first, sin, value=sign)
    return turned


def hidden_at(network: Network, ids: Tensor, chosen: Tensor) -> Tensor:
    """Return the final hidden states at the chosen positions of the flattened batch."""
    length = ids.shape[1]
    x: Tensor = network.embed(ids)
    rotary = network.rotary(torch.arange(length, device=ids.device), x.dtype)
    later = torch.full((1, length, length), float("-inf"), dtype=x.dtype, device=ids.device).triu_(1)
    for index, block in enumerate(network.layers):
        mixed = _mixed(block.attention, _normed(block.norm_1, x), rotary, later)
        if index == len(network.layers) - 1:
            x, mixed = x.flatten(0, 1)[chosen], mixed.flatten(0, 1)[chosen]
        x = x + block.attention.out(mixed)
        x = x + _gated(block, _normed(block.norm_2, x))
    return _normed(network.norm, x)


def _normed(norm: Any, x: Tensor) -> Tensor:
    result: Tensor = _norm(x, norm.weight, norm.eps)
    return result


def _gated(block: Block, inner: Tensor) -> Tensor:
    result: Tensor = block.down(functional.silu(block.gate(inner)) * block.up(inner))
    return result


def _mixed(attention: Attention, x: Tensor, rotary: tuple[Tensor, Tensor], later: Tensor) -> Tensor:
    """Return the output of the heads before the projection."""
    rows, length, hidden = x.shape
    heads = attention.heads
    size = hidden // heads
    parts = (attention.q, attention.k, attention.v)
    weight, bias = torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])
    qkv = functional.linear(x, weight, bias).view(rows, length, 3 * heads, size).transpose(1, 2)
    turned: Tensor = _turn(qkv[:, : 2 * heads], *rotary)
    flat = (rows * heads, length, size)
    q, k, v = (part.reshape(flat) for part in (turned[:, :heads], turned[:, heads:], qkv[:, 2 * heads :]))
    scores = torch.baddbmm(later.expand(rows * heads, length, length), q, k.transpose(1, 2), alpha=size**-0.5)
    mixed = torch.bmm(torch.softmax(scores, -1), v)
    return mixed.view(rows, heads, length, size).transpose(1, 2).reshape(rows, length, hidden)
