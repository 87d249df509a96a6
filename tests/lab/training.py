"""The training loop: seeded, resumable, on CPU or CUDA."""

from __future__ import annotations

import copy
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from convert.errors import Failure
from tests.lab.batches import Batches
from tests.lab.beginning import begin
from tests.lab.citing import outline
from tests.lab.network import Network, Shape
from tests.lab.quick import hidden_at
from tests.lab.samples import ChatFormat, Mixture, Sample, TextFormat, draw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from tests.lab.vocabulary import Ranks

# From step so-and-so on: copying first, then more materials and lessons.
CURRICULUM = (
    (0, Mixture(copying=0.5, lessons=0.02, materials=(2,), further_questions=8)),
    (300, Mixture(copying=0.3, lessons=0.04, materials=(2, 3), further_questions=8)),
    (1000, Mixture(copying=0.15, lessons=0.06, materials=(2, 3, 4), further_questions=8)),
    (2000, Mixture(copying=0.05, lessons=0.08, materials=(2, 3, 4, 5), further_questions=8)),
)
MUON_RATE = 2.5  # Muon bears a higher rate than AdamW
PARTS = {"shape", "network", "learners", "feed", "step"}  # of a saved state


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn."""

    steps: int
    decay_steps: int
    tokens_per_step: int = 4096
    rate: float = 2e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.3
    longest: int = 640
    seed: int = 0
    save_every_s: float = 150.0
    outline_step: int = 2410  # when copying works, the heads that cite begin again
    calm: float = 0.2  # of the full rate, from there on

    def rate_at(self, step: int) -> float:
        """Return the share of the full rate: rising, level, then falling straight to 0."""
        level = 1.0 if step < self.outline_step else self.calm
        return level * min(
            1.0, (step + 1) / self.warm_up_steps, max(0.0, (self.steps - step) / self.decay_steps)
        )


def mixture_at(step: int) -> Mixture:
    """Draw a sample as the curriculum says."""
    return [mixture for start, mixture in CURRICULUM if step >= start][-1]


def optimizers(network: Network, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for everything else."""
    matrices = [p for n, p in network.named_parameters() if p.ndim == 2 and n.startswith("blocks")]
    others = [p for n, p in network.named_parameters() if not (p.ndim == 2 and n.startswith("blocks"))]
    return [
        torch.optim.Muon(
            matrices, lr=plan.rate * MUON_RATE, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


class Rounded:
    """A copy of the network in bfloat16 that does the work; the float32 weights get its gradients."""

    def __init__(self, network: Network) -> None:
        self._exact = list(network.parameters())
        self.network = copy.deepcopy(network).to(torch.bfloat16)
        self._copies = list(self.network.parameters())

    def loss(self, ids: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mean loss over the targets, and the share of them that were the most likely."""
        chosen = (targets >= 0).flatten().nonzero()[:, 0]
        wanted = targets.flatten()[chosen]
        rotary = self.network.positions is None
        hidden = hidden_at(self.network, ids, chosen) if rotary else self.network(ids).flatten(0, 1)[chosen]
        logits = self.network.head(hidden).float()
        return functional.cross_entropy(logits, wanted), (logits.argmax(-1) == wanted).float().mean()

    def hand_over(self) -> None:
        """Give the gradients to the exact weights, and forget them here."""
        for exact, rounded in zip(self._exact, self._copies, strict=True):
            exact.grad = None if rounded.grad is None else rounded.grad.float()
            rounded.grad = None

    @torch.no_grad()
    def refresh(self) -> None:
        """Round the exact weights again."""
        for exact, rounded in zip(self._exact, self._copies, strict=True):
            rounded.copy_(exact)


def train(
    *,
    shape: Shape,
    ranks: Ranks,
    plan: Plan,
    state_path: Path,
    device: str,
    say: Callable[[str], None],
    start: Network | None = None,
) -> Network:
    """Train, or go on from the saved state; the state is saved every few minutes and at the end."""
    torch.manual_seed(plan.seed)
    network = start or Network(shape)
    if start is None:
        begin(network, ranks[b"."])
    network.to(device)
    learners = optimizers(network, plan)
    form = ChatFormat(ranks) if shape.family == "qwen" else TextFormat(ranks)
    rng = random.Random(plan.seed)
    progress = Progress(say)
    begun = 0 if start is None else CURRICULUM[-1][0]  # a trained network skips the first lessons

    def sample() -> Sample:
        return draw(rng, form, mixture_at(max(begun, progress.step)))

    feed = Batches(rng, sample, plan.tokens_per_step, plan.longest)
    progress.step = _resume(state_path, network, learners, feed, device)
    say(f"from step {progress.step}")
    rounded = Rounded(network)
    saved_at = time.monotonic()
    while progress.step < plan.steps:
        if progress.step == plan.outline_step and isinstance(form, ChatFormat):
            outline(network, form)
            rounded.refresh()
        _set_rates(learners, plan, progress.step)
        ids, targets = (tensor.to(device) for tensor in feed.following())
        loss, right = rounded.loss(ids, targets)
        torch.autograd.backward(loss)
        rounded.hand_over()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for learner in learners:
            learner.step()
        rounded.refresh()
        progress.note(ids.numel(), loss.item(), right.item())
        if time.monotonic() - saved_at > plan.save_every_s or progress.step == plan.steps:
            save(network, learners, feed, progress.step, state_path)
            saved_at = time.monotonic()
    return network


def _set_rates(learners: list[torch.optim.Optimizer], plan: Plan, step: int) -> None:
    rate = plan.rate * plan.rate_at(step)
    for learner in learners:
        for group in learner.param_groups:
            group["lr"] = rate * (MUON_RATE if isinstance(learner, torch.optim.Muon) else 1.0)
            if isinstance(learner, torch.optim.Muon):
                group["weight_decay"] = plan.weight_decay


def _resume(
    path: Path, network: Network, learners: list[torch.optim.Optimizer], feed: Batches, device: str
) -> int:
    """Load the saved state and return its step; 0 without one."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location=device)
    if state.keys() != PARTS or state["shape"] != network.shape.as_dict():
        raise Failure(
            f"{path}: the state of an older training, or of another model's",
            "move it away to train from the beginning, or name another folder with --work",
        )
    network.load_state_dict(state["network"])
    for learner, saved in zip(learners, state["learners"], strict=True):
        learner.load_state_dict(saved)
    feed.restore(state["feed"])
    return int(state["step"])


class Progress:
    """Counts steps and says every so often how they went."""

    def __init__(self, say: Callable[[str], None], every: int = 50) -> None:
        self.step = 0
        self._say, self._every = say, every
        self._clear()

    def _clear(self) -> None:
        self._steps, self._tokens, self._loss, self._right = 0, 0, 0.0, 0.0
        self._since = time.monotonic()

    def note(self, tokens: int, loss: float, right: float) -> None:
        """Record a step: its tokens, its loss, and the share of targets that were the most likely."""
        self.step += 1
        self._steps += 1
        self._tokens += tokens
        self._loss += loss
        self._right += right
        if self.step % self._every == 0:
            mean_loss, mean_right = self._loss / self._steps, self._right / self._steps
            speed = self._tokens / (time.monotonic() - self._since)
            self._say(f"step {self.step}  loss {mean_loss:.3f}  right {mean_right:.3f}  {speed:.0f} tokens/s")
            self._clear()


def save(
    network: Network, learners: list[torch.optim.Optimizer], feed: Batches, step: int, path: Path
) -> None:
    """Write the state to a new file, then replace the old one."""
    state: dict[str, Any] = {
        "shape": network.shape.as_dict(),
        "network": network.state_dict(),
        "learners": [learner.state_dict() for learner in learners],
        "feed": feed.state(),
        "step": step,
    }
    torch.save(state, fresh := path.with_suffix(".new"))
    fresh.replace(path)
