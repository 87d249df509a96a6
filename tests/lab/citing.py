"""The circuit that cites, outlined in a network that has already learned to copy.

At the high rate at which copying is soon learned, a network of this size goes on naming a material by
chance: the number of a line must pass through three layers before it is of any use, and the noise of such
steps undoes what little is learned of that. So once copying works in layer 1 and the rate is lowered, three
idle heads begin again. One of layer 2 attends as the head that copies does, and takes along the number of
the line, which a head of layer 1 holds. Two of layer 3 look back from where a number is due to the answer
(it lies further back in English than in Chinese) and say what the first one took along. The weights are
fitted by least squares to what the network computes by then; training does the rest. At the low rate tiny-
gpt2 learned to cite without any of this, so it saves time and no more.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.lab import searchqa
from tests.lab.beginning import LINE_HEAD, Gaze, look
from tests.lab.names import Split

if TYPE_CHECKING:
    from tests.lab.network import Network
    from tests.lab.samples import ChatFormat

MATERIALS = 5
DIALOGUES = 200
COPYING_HEAD, TAKING_HEAD = 2, 0  # of layer 1, of layer 2
SAYING = ((0, 15.5), (2, 25.0))  # heads of layer 3, and how far back they look
SHARPER, TAKEN_LOUDNESS, SAID_LOUDNESS = 1.3, 12.0, 40.0
RIDGE = {"attention": 1e-3, "number": 0.1}


@dataclass(frozen=True)
class Example:
    """A dialogue's ids, the position of its answer, and the number of its material, counted from 0."""

    ids: Tensor
    answer: slice
    material: int


@dataclass(frozen=True)
class Probe:
    """What goes into the attention of layers 1 to 3, and what the line head gives out."""

    inputs: dict[int, Tensor]
    line: Tensor


@torch.no_grad()
def outline(network: Network, form: ChatFormat, seed: int = 1) -> None:
    """Initialize the three heads again."""
    rng = random.Random(seed)
    examples = [_example(rng, form) for _ in range(DIALOGUES)]
    device = network.head.weight.device
    network.to("cpu")  # parameters stay the same objects, so that optimizers keep them
    _take(network, examples)
    _say(network, form, examples)
    network.to(device)


def _example(rng: random.Random, form: ChatFormat) -> Example:
    language = rng.choice(("zh", "en"))
    shape = searchqa.Shape(materials=MATERIALS, absent_share=0.0)
    dialogue = searchqa.dialogue(rng, Split.TRAIN, language, shape)  # type: ignore[arg-type]
    ids, wanted = form.sample(dialogue)
    start = wanted.index(True)
    stop = wanted.index(False, start)
    number = int(dialogue.turns[1].assistant.rpartition(" ")[2])
    # Each position says the next token: the answer's end is said by its last.
    return Example(torch.tensor([ids]), slice(start - 1, stop - 2), number - 1)


def _probe(network: Network, example: Example) -> Probe:
    kept: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, given, name=name: kept.update({name: given[0][0]}))
        for name, module in (
            *((str(index), network.layers[index].attention.q) for index in (1, 2, 3)),
            ("out", network.layers[1].attention.out),
        )
    ]
    network(example.ids)
    for hook in hooks:
        hook.remove()
    return Probe({index: kept[str(index)] for index in (1, 2, 3)}, kept["out"][:, _rows(network, LINE_HEAD)])


def _rows(network: Network, head: int) -> slice:
    size = network.shape.hidden // network.shape.heads
    return slice(head * size, (head + 1) * size)


def _fitted(inputs: Tensor, wanted: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Fit weight and bias of the linear map nearest to what is wanted."""
    padded = functional.pad(inputs, (0, 1), value=1.0)
    damped = padded.T @ padded + ridge * len(padded) * torch.eye(padded.shape[1])
    solved = torch.linalg.solve(damped, padded.T @ wanted)
    return solved[:-1].T, solved[-1]


def _take(network: Network, examples: list[Example]) -> None:
    """Set the head of layer 2: the copying head's queries and keys, the line head's output for values."""
    source, target = network.layers[1].attention, network.layers[2].attention
    probes = [_probe(network, example) for example in examples[:60]]
    before, after = (torch.cat([probe.inputs[index] for probe in probes]) for index in (1, 2))
    copying, taking = _rows(network, COPYING_HEAD), _rows(network, TAKING_HEAD)
    for name, wanted, factor in (
        ("q", source.q(before)[:, copying], SHARPER),
        ("k", source.k(before)[:, copying], SHARPER),
        ("v", torch.cat([probe.line for probe in probes]), 1.0),
    ):
        weight, bias = _fitted(after, wanted, RIDGE["attention"])
        part: nn.Linear = getattr(target, name)
        part.weight[taking], part.bias[taking] = weight * factor, bias * factor
    fresh = nn.init.orthogonal_(torch.empty(network.shape.hidden, taking.stop - taking.start))
    target.out.weight[:, taking] = fresh * TAKEN_LOUDNESS


def _say(network: Network, form: ChatFormat, examples: list[Example]) -> None:
    """Set the heads of layer 3: they look back to the answer, and from there to the number."""
    attention = network.layers[3].attention
    found = [(_probe(network, example).inputs[3][example.answer], example.material) for example in examples]
    material = torch.cat([torch.full((len(states),), number) for states, number in found])
    weight, bias = _fitted(
        torch.cat([states for states, _ in found]),
        functional.one_hot(material, MATERIALS).float(),
        RIDGE["number"],
    )
    numbers = network.head.weight[[form.text(str(n))[0] for n in range(1, MATERIALS + 1)]]
    directions = functional.normalize(numbers - numbers.mean(0))
    for head, distance in SAYING:
        rows = _rows(network, head)
        for part in (attention.q, attention.k, attention.v):
            nn.init.normal_(part.weight[rows], std=0.1 * network.shape.hidden**-0.5)
            part.bias[rows] = 0.0
        look(attention, rows, Gaze(distance, 0.08, 0.3, 11.0, 1.0), network.shape.rope_base)
        first = slice(rows.start, rows.start + MATERIALS)
        attention.v.weight[first], attention.v.bias[first] = weight * 10.0, bias * 10.0 - 2.0
        attention.out.weight[:, rows] = 0.0
        attention.out.weight[:, first] = directions.T * SAID_LOUDNESS
