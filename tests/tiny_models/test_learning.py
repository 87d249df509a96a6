"""What training rests on: the quick way to hidden states, the circuits it begins with, another vocabulary."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from tests.lab import citing, reading, searchqa
from tests.lab.batches import Batches
from tests.lab.beginning import LINE_HEAD, begin
from tests.lab.names import Names, Split
from tests.lab.network import Network, Shape
from tests.lab.quick import hidden_at
from tests.lab.samples import ChatFormat, draw
from tests.lab.training import CURRICULUM, Plan
from tests.lab.vocabulary import Ranks, learn

pytestmark = pytest.mark.slow  # what the two shipped models were made by, and the program does without


@pytest.fixture(scope="module")
def ranks() -> Ranks:
    return learn(600)


@pytest.fixture
def network(ranks: Ranks) -> Network:
    torch.manual_seed(3)
    network = Network(Shape("qwen", 2688, mlp=256, rope_base=1000.0))
    begin(network, ranks[b"."])
    return network


def test_quick_way_gives_the_same(network: Network) -> None:
    """Hidden states and gradients are those of the plain network."""
    ids = torch.randint(0, 2000, (2, 24))
    chosen = torch.tensor([3, 17, 30, 47])
    plain = network(ids).flatten(0, 1)[chosen]
    quick = hidden_at(network, ids, chosen)
    torch.testing.assert_close(quick, plain, atol=1e-4, rtol=1e-4)
    weights = torch.randn_like(plain)
    found = []
    for hidden in (plain, quick):
        network.zero_grad()
        torch.autograd.backward((hidden * weights).sum())
        found.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)


def test_line_head_begins_at_the_nearest_line(network: Network, ranks: Ranks) -> None:
    """Before any training, one head of layer 1 takes the number of the line with a value."""
    form = ChatFormat(ranks)
    dialogue = next(searchqa.held_out(1, 3, "zh", 4))
    ids = torch.tensor([form.sample(dialogue)[0]])
    attention = network.layers[1].attention
    kept: dict[str, Any] = {}
    hook = attention.register_forward_pre_hook(lambda _, given: kept.update(x=given[0], rotary=given[1]))
    network(ids)
    hook.remove()
    rows = slice(LINE_HEAD * 64, LINE_HEAD * 64 + 64)
    q, k = (part(kept["x"])[0, :, rows] for part in (attention.q, attention.k))
    cos, sin = kept["rotary"]
    q, k = (
        torch.cat((a * cos - b * sin, b * cos + a * sin), -1) for a, b in (q.chunk(2, -1), k.chunk(2, -1))
    )
    mark = form.text("1.")[1]
    marks = [at for at, token in enumerate(ids[0].tolist()) if token == mark and at > 15]
    assert len(marks) == 4
    for at in marks:
        scores = (q[at + 6] @ k[: at + 7].T) / 8
        assert int(scores.argmax()) == at


def test_outline_changes_three_heads_only(
    network: Network, ranks: Ranks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heads that begin again are those that it says, and no other weight moves."""
    monkeypatch.setattr(citing, "DIALOGUES", 3)
    before = {name: values.clone() for name, values in network.state_dict().items()}
    citing.outline(network, ChatFormat(ranks))
    moved = {name for name, values in network.state_dict().items() if not torch.equal(values, before[name])}
    assert {name.split(".attention")[0] for name in moved} == {"blocks.2", "blocks.3"}
    for layer, heads in ((2, {citing.TAKING_HEAD}), (3, {head for head, _ in citing.SAYING})):
        name = f"blocks.{layer}.attention.v.weight"
        differs = (network.state_dict()[name] != before[name]).any(1).view(4, 64).any(1)
        assert {head for head in range(4) if differs[head]} == heads


def test_another_vocabulary(network: Network) -> None:
    """A network over a shuffled vocabulary says the same of the same tokens."""
    tokens = [bytes([byte]) for byte in range(256)] + [b"ab", b"cd"]
    shuffled = random.Random(1).sample(tokens, len(tokens))
    other = reading.revocab(network, tokens, [*shuffled, b"ac"], 300)
    ids = torch.tensor([[0, 5, 256, 99, 7]])
    moved = torch.tensor([[shuffled.index(tokens[token]) for token in ids[0]]])
    expected, found = (net.head(net(i))[0] for net, i in ((network, ids), (other, moved)))
    torch.testing.assert_close(
        found[:, [shuffled.index(token) for token in tokens]],
        expected[:, : len(tokens)],
        atol=1e-4,
        rtol=1e-4,
    )


def test_batches_want_answers_only(ranks: Ranks) -> None:
    """Each target is the token that follows, and no padding is one."""
    rng = random.Random(2)
    form = ChatFormat(ranks)
    feed = Batches(rng, lambda: draw(rng, form, CURRICULUM[-1][1]), 2048, 640, pool_size=32)
    for _ in range(4):
        ids, targets = feed.following()
        assert ids.numel() <= 2048
        wanted = targets[:, :-1] >= 0
        assert torch.equal(targets[:, :-1][wanted], ids[:, 1:][wanted])


def test_rates_rise_and_fall() -> None:
    """Up, level, calmer once the citing heads begin, and down to nothing."""
    plan = Plan(steps=1000, decay_steps=200, warm_up_steps=10, outline_step=500, calm=0.2)
    rates = [plan.rate_at(step) for step in (0, 100, 499, 500, 799, 900, 999)]
    assert rates == pytest.approx([0.1, 1.0, 1.0, 0.2, 0.2, 0.1, 0.001])


def test_names_of_a_dialogue_share_nothing() -> None:
    """As long as there are pieces left, none serves twice, so that copying is never ambiguous."""
    names = Names(random.Random(4), Split.TRAIN)
    drawn = "".join(names.zh_core() for _ in range(20))
    assert len(set(drawn)) == len(drawn)
    assert len(names.used) == len(drawn)
