"""What a bad conversion does to a model: the score must show each of these."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.network import Network

HARMLESS = "int4 round-to-nearest, group 32"
PLAIN_POINTS = 30.0  # of the score: what a broken conversion is to cost


def swapped_q_k(network: Network, layer: int) -> Network:
    """Exchange queries and keys of one layer."""
    bad = copy.deepcopy(network)
    attention = bad.layers[layer].attention
    attention.q, attention.k = attention.k, attention.q
    return bad


def swapped_gate_up(network: Network) -> Network:
    """Gate and up projections change places in every layer."""
    bad = copy.deepcopy(network)
    for block in bad.layers:
        block.gate, block.up = block.up, block.gate
    return bad


def rope_base(network: Network, factor: float) -> Network:
    """Change the rotary base by a factor."""
    bad = copy.deepcopy(network)
    bad.shape = replace(bad.shape, rope_base=bad.shape.rope_base * factor)
    return bad


def rounded(network: Network, bits: int, group: int = 32) -> Network:
    """Round the matrices of the layers and the head to nearest, symmetrically, in groups along the inputs."""
    bad = copy.deepcopy(network)
    highest = 2 ** (bits - 1) - 1
    with torch.no_grad():
        matrices: list[Tensor] = [p for p in bad.blocks.parameters() if p.ndim == 2]
        if bad.head.weight is not bad.embed.weight:
            matrices.append(bad.head.weight)
        for matrix in matrices:
            groups = matrix.view(-1, group)
            scale = groups.abs().amax(-1, keepdim=True).clamp_min(1e-12) / highest
            groups.copy_((groups / scale).round().clamp(-highest - 1, highest) * scale)
    return bad


def every(network: Network) -> dict[str, Callable[[], Network]]:
    """Name and maker of each damage to the weights, and the rounding that must be harmless."""
    makers: dict[str, Callable[[], Network]] = {
        HARMLESS: partial(rounded, network, 4),
        "int2 round-to-nearest, group 32": partial(rounded, network, 2),
    }
    for layer in range(network.shape.layers):
        makers[f"q and k swapped in layer {layer}"] = partial(swapped_q_k, network, layer)
    if network.shape.family == "qwen":
        makers["gate and up swapped"] = partial(swapped_gate_up, network)
        makers["RoPE base x 10"] = partial(rope_base, network, 10.0)
    return makers
