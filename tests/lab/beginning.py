"""The parameters that training starts from, with the outline of a copying circuit in the first layers.

Small transformers take millions of tokens to find such a circuit by themselves; training makes of the outline
what the dialogues need.

Layer 0 looks one and two tokens back and gathers the neighborhood, near and wide. Layer 1 looks for a place
whose predecessor is the present token, for one whose neighborhood resembles the present one, and for the
nearest line number. Later heads begin by looking for what resembles the present token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from tests.lab.network import Attention, Network

SLOW = 0.012  # rotary pairs below this frequency hardly turn within a dialogue
MATCH_STRENGTH = 2.0
POSITION_PAIRS = 16  # of learned positions, which begin as waves
POSITION_SIZE = 0.3


@dataclass(frozen=True)
class Gaze:
    """Where a head of layer 0 looks: so far back, on waves of these frequencies, with such a peak."""

    distance: float
    slowest: float
    fastest: float
    peak: float
    loudness: float  # of what it writes: averages are quieter than single tokens


GAZES = (
    Gaze(1, 0.1, 1.0, 16.0, 1.0),
    Gaze(2, 0.1, 1.0, 16.0, 1.0),
    Gaze(4, 0.12, 0.35, 8.0, 2.5),
    Gaze(9, 0.07, 0.2, 8.0, 2.5),
)
# Heads of layer 1: which head of layer 0 the question comes from (none: the token itself), and which the key.
MATCHES: tuple[tuple[int | None, int], ...] = ((None, 0), (None, 1), (3, 2), (2, 2))
LINE_HEAD = 1  # of layer 1, where positions are rotary


def _orthogonal(rows: int, columns: int) -> Tensor:
    return nn.init.orthogonal_(torch.empty(rows, columns))


@torch.no_grad()
def begin(network: Network, line_mark: int) -> None:
    """Set every parameter of a fresh network; torch's generator settles the draw.

    `line_mark` is the token after the number of a line.
    """
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
    slices = [slice(head * size, (head + 1) * size) for head in range(shape.heads)]
    first = network.layers[0].attention
    first.v.weight[slices[3]] = first.v.weight[slices[2]]  # both gather in the same code
    written, read = _orthogonal(shape.hidden, shape.hidden), first.v.weight.clone()
    for rows, gaze in zip(slices, GAZES, strict=True):
        if waves is None:
            look(first, rows, gaze, shape.rope_base)
        else:
            _look_on_waves(first, rows, gaze, waves)
        first.out.weight[:, rows] = written[:, rows] * gain * gaze.loudness
    for index, block in enumerate(network.layers[1:], 1):
        attention = block.attention
        for head, rows in enumerate(slices):
            if index == 1:
                source, kept_by = MATCHES[head]
                kept = written[:, slices[kept_by]].T
                asked = read[slices[kept_by]] if source is None else written[:, slices[source]].T
            else:
                asked = kept = torch.randn(size, shape.hidden) * shape.hidden**-0.5
            strength = 1.0 if index == 1 else 0.7
            _match(attention, rows, (asked, kept), strength, shape.rope_base if rotary else None)
            value = attention.v.weight[rows]
            to_head = head % 2 == 0 or (index == 1 and head < 3)
            strength = gain * (2.0 if index == 1 else 0.4)
            attention.out.weight[:, rows] = (turn @ value.T if to_head else value.T) * strength
    if rotary:
        rows, attention = slices[LINE_HEAD], network.layers[1].attention
        _look_for_line(attention, rows, network.embed.weight[line_mark], shape.rope_base)
        attention.v.weight[rows] = written[:, slices[0]].T  # the token before the mark is the number
        attention.out.weight[:, rows] = _orthogonal(shape.hidden, size) * gain * 2.0


def _frequencies() -> Tensor:
    return 100.0 ** -(torch.arange(POSITION_PAIRS) / POSITION_PAIRS)


def _waves(network: Network) -> Tensor:
    """Set learned positions to waves along some directions, and return those."""
    if network.positions is None:
        raise ValueError("a rotary network has no learned positions")
    waves = _orthogonal(2 * POSITION_PAIRS, network.shape.hidden)
    angles = torch.arange(network.shape.context)[:, None] * _frequencies()
    network.embed.weight -= network.embed.weight @ waves.T @ waves  # tokens leave these directions free
    network.positions.weight.copy_(POSITION_SIZE * torch.cat((angles.cos(), angles.sin()), -1) @ waves)
    return waves


def _chosen(frequencies: Tensor, gaze: Gaze) -> tuple[Tensor, float]:
    """Choose the pairs within the limits, and the size of query and key that gives the peak."""
    pairs = ((frequencies >= gaze.slowest) & (frequencies <= gaze.fastest)).nonzero()[:, 0]
    return pairs, float((8.0 * gaze.peak / len(pairs)) ** 0.5)  # 8: the root of the head's size


def _look_on_waves(attention: Attention, rows: slice, gaze: Gaze, waves: Tensor) -> None:
    """Set weights that match the wave of one position with that of the position so far back."""
    pairs, strength = _chosen(_frequencies(), gaze)
    strength /= 2.4  # about the size of a wave behind the norm
    cosines, sines = waves[pairs], waves[POSITION_PAIRS + pairs]
    angles = (_frequencies()[pairs] * gaze.distance)[:, None]
    for weight in (attention.q.weight, attention.k.weight):
        weight[rows] *= 0.1
    end = rows.start + 2 * len(pairs)
    attention.q.weight[rows.start : end] = strength * torch.cat((cosines, sines))
    turned = (cosines * angles.cos() - sines * angles.sin(), cosines * angles.sin() + sines * angles.cos())
    attention.k.weight[rows.start : end] = strength * torch.cat(turned)


def look(attention: Attention, rows: slice, gaze: Gaze, base: float) -> None:
    """Set biases whose product under the rotary turn is greatest at the distance."""
    half = (rows.stop - rows.start) // 2
    frequencies = base ** -(torch.arange(half) / half)
    pairs, strength = _chosen(frequencies, gaze)
    angles = frequencies[pairs] * gaze.distance
    for weight in (attention.q.weight, attention.k.weight):
        weight[rows] *= 0.1
    attention.q.bias[rows.start + pairs] = strength
    attention.k.bias[rows.start + pairs] = strength * angles.cos()
    attention.k.bias[rows.start + half + pairs] = strength * angles.sin()


def _look_for_line(attention: Attention, rows: slice, mark: Tensor, base: float) -> None:
    """Set keys that find the mark, and rotary pairs that prefer the nearest."""
    half = (rows.stop - rows.start) // 2
    frequencies = base ** -(torch.arange(half) / half)
    pairs, strength = _chosen(frequencies, Gaze(0, 0.015, 0.07, 14.0, 1.0))
    attention.q.weight[rows] *= 0.1
    attention.k.weight[rows] *= 0.1
    attention.q.bias[rows.start + pairs] = strength
    attention.k.weight[rows.start + pairs] = strength * mark / mark.norm() / 10.0  # about the mark's share


def _match(
    attention: Attention, rows: slice, codes: tuple[Tensor, Tensor], strength: float, base: float | None
) -> None:
    """Set queries and keys that agree on the same code, on the slow rotary pairs."""
    asked, kept = codes
    half = asked.shape[0] // 2
    chosen = torch.arange(2 * half)
    if base is not None:
        slow = (base ** -(torch.arange(half) / half) < SLOW).nonzero()[:, 0]
        chosen = torch.cat((slow, half + slow))
    for target, code in ((attention.q.weight, asked), (attention.k.weight, kept)):
        target[rows] *= 0.2
        target[rows.start + chosen] = code[chosen] * strength * MATCH_STRENGTH * (len(chosen) / 28) ** -0.5
