"""Where training starts: small transformers take millions of tokens to find the first copying circuit, so the
first layers begin with its outline, and training makes of it what the dialogues need.

Layer 0 looks one, two or three tokens back; layer 1 looks for a place whose predecessor is the present token;
all later heads begin by looking for what resembles the present token. Nothing of the task is built in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from recipes.models.lab.network import Attention, Network

LOOK_BACK_PAIRS = 8  # the fastest rotary pairs, which tell neighbours apart
LOOK_BACK_STRENGTH = 4.0
MATCH_PAIRS = 14  # the slowest ones, which hardly turn within a dialogue
MATCH_STRENGTH = 2.0
POSITION_PAIRS = 16  # of learned positions, which begin as waves
POSITION_SIZE = 0.3
POSITION_STRENGTH = 2.4


def _orthogonal(rows: int, columns: int) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rows, columns))


@torch.no_grad()
def begin(network: Network) -> None:
    """Set every parameter of a fresh network; torch's generator settles the draw."""
    shape = network.shape
    rotary = network.positions is None
    embed_std = 0.5 if rotary else 0.1
    for name, parameter in network.named_parameters():
        if name.endswith(("out.weight", "down.weight", "bias")):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 2:
            nn.init.normal_(parameter, std=embed_std if name.startswith("embed") else shape.hidden**-0.5)
    # An untied head reads another rotation of the space than the embedding writes: no token calls itself.
    turn = torch.eye(shape.hidden)
    if rotary:
        turn = _orthogonal(shape.hidden, shape.hidden)
        network.head.weight.copy_(network.embed.weight @ turn.T * 0.25)
    waves = None if rotary else _waves(network)
    gain = embed_std / 0.5
    size = shape.hidden // shape.heads
    first = network.layers[0].attention
    written = _orthogonal(shape.hidden, shape.hidden)
    read = first.v.weight.clone()
    for head in range(shape.heads - 1):
        rows = slice(head * size, (head + 1) * size)
        if waves is None:
            _look_back(first, rows, 1 + head, shape.rope_base)
        else:
            _look_back_on_waves(first, rows, 1 + head, waves)
        first.out.weight[:, rows] = written[:, rows] * gain
    for index, block in enumerate(network.layers):
        if index == 0:
            continue
        attention = block.attention
        for head in range(shape.heads):
            rows = slice(head * size, (head + 1) * size)
            if index == 1 and head < 3:
                source = slice((head // 2) * size, (head // 2 + 1) * size)
                asked, kept = read[source], written[:, source].T
            else:
                asked = kept = torch.randn(size, shape.hidden) * shape.hidden**-0.5
            _match(attention, rows, asked, kept, 1.0 if index == 1 else 0.7, slow_only=rotary)
            value = attention.v.weight[rows]
            to_head = head % 2 == 0 or (index == 1 and head < 3)
            strength = gain * (2.0 if index == 1 else 0.4)
            attention.out.weight[:, rows] = (turn @ value.T if to_head else value.T) * strength


def _frequencies() -> Tensor:
    return 100.0 ** -(torch.arange(POSITION_PAIRS) / POSITION_PAIRS)


def _waves(network: Network) -> Tensor:
    """Learned positions begin as waves along some directions, which are returned."""
    if network.positions is None:
        raise ValueError("a rotary network has no learned positions")
    waves = _orthogonal(2 * POSITION_PAIRS, network.shape.hidden)
    angles = torch.arange(network.shape.context)[:, None] * _frequencies()
    network.embed.weight -= network.embed.weight @ waves.T @ waves  # tokens leave these directions free
    network.positions.weight.copy_(POSITION_SIZE * torch.cat((angles.cos(), angles.sin()), -1) @ waves)
    return waves


def _look_back_on_waves(attention: Attention, rows: slice, distance: int, waves: Tensor) -> None:
    """Weights under which the wave of one position meets that of the position so far back."""
    pairs, cosines, sines = LOOK_BACK_PAIRS, waves[:LOOK_BACK_PAIRS], waves[POSITION_PAIRS:][:LOOK_BACK_PAIRS]
    angles = (_frequencies()[:pairs] * distance)[:, None]
    for weight in (attention.q.weight, attention.k.weight):
        weight[rows] *= 0.1
    at = rows.start
    attention.q.weight[at : at + 2 * pairs] = POSITION_STRENGTH * torch.cat((cosines, sines))
    turned = (cosines * angles.cos() - sines * angles.sin(), cosines * angles.sin() + sines * angles.cos())
    attention.k.weight[at : at + 2 * pairs] = POSITION_STRENGTH * torch.cat(turned)


def _look_back(attention: Attention, rows: slice, distance: int, base: float) -> None:
    """Biases whose product under the rotary turn is greatest at the distance."""
    half, at = (rows.stop - rows.start) // 2, rows.start
    angles = base ** -(torch.arange(half) / half)[:LOOK_BACK_PAIRS] * distance
    pairs = at + torch.arange(LOOK_BACK_PAIRS)
    for weight in (attention.q.weight, attention.k.weight):
        weight[rows] *= 0.1
    attention.q.bias[pairs] = LOOK_BACK_STRENGTH
    attention.k.bias[pairs] = LOOK_BACK_STRENGTH * angles.cos()
    attention.k.bias[pairs + half] = LOOK_BACK_STRENGTH * angles.sin()


def _match(
    attention: Attention, rows: slice, asked: Tensor, kept: Tensor, strength: float, *, slow_only: bool
) -> None:
    """Queries and keys that agree where the same code is asked for and kept, on the slow rotary pairs."""
    half = asked.shape[0] // 2
    chosen = torch.arange(2 * half)
    if slow_only:
        chosen = torch.cat((chosen[half - MATCH_PAIRS : half], chosen[2 * half - MATCH_PAIRS :]))
    for target, code in ((attention.q.weight, asked), (attention.k.weight, kept)):
        target[rows] *= 0.2
        target[rows.start + chosen] = code[chosen] * strength * MATCH_STRENGTH * (len(chosen) / 28) ** -0.5
