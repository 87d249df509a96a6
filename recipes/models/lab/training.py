"""The training loop: seeded, resumable, on CPU or CUDA."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from recipes.models.lab.batches import batches
from recipes.models.lab.beginning import begin
from recipes.models.lab.network import Network, Shape
from recipes.models.lab.samples import ChatFormat, Mixture, TextFormat, draw

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from recipes.models.lab.vocabulary import Ranks

# From step so-and-so on: copying first, then more materials and lessons.
CURRICULUM = (
    (0, Mixture(copying=0.3, lessons=0.04, materials=(2,), further_questions=5)),
    (150, Mixture(copying=0.08, lessons=0.06, materials=(2,), further_questions=5)),
    (600, Mixture(copying=0.03, lessons=0.08, materials=(2, 3), further_questions=5)),
    (1100, Mixture(copying=0.02, lessons=0.1, materials=(2, 3, 4), further_questions=6)),
    (1500, Mixture(copying=0.02, lessons=0.1, materials=(2, 3, 4, 5), further_questions=6)),
)
MUON_RATE = 2.5  # Muon bears a higher rate than AdamW


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn."""

    steps: int
    decay_steps: int
    tokens_per_step: int = 4096
    rate: float = 2e-3
    warm_up_steps: int = 100
    weight_decay: float = 0.05
    longest: int = 640
    seed: int = 0
    save_every_s: float = 150.0

    def rate_at(self, step: int) -> float:
        """The share of the full rate: up, level, then straight down to nothing."""
        return min(1.0, (step + 1) / self.warm_up_steps, max(0.0, (self.steps - step) / self.decay_steps))


def mixture_at(step: int) -> Mixture:
    """What the curriculum asks for."""
    return [mixture for start, mixture in CURRICULUM if step >= start][-1]


def optimisers(network: Network, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for everything else."""
    matrices = [p for n, p in network.named_parameters() if p.ndim == 2 and n.startswith("blocks")]
    others = [p for n, p in network.named_parameters() if not (p.ndim == 2 and n.startswith("blocks"))]
    return [
        torch.optim.Muon(
            matrices, lr=plan.rate * MUON_RATE, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=plan.rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def train(
    *, shape: Shape, ranks: Ranks, plan: Plan, state_path: Path, device: str, say: Callable[[str], None]
) -> Network:
    """Train, or go on from the saved state; the state is saved every few minutes and at the end."""
    torch.manual_seed(plan.seed)
    network = Network(shape)
    begin(network)
    network.to(device)
    learners = optimisers(network, plan)
    form = ChatFormat(ranks) if shape.family == "qwen" else TextFormat(ranks)
    step = 0
    if state_path.exists():
        state = torch.load(state_path, weights_only=True, map_location=device)
        network.load_state_dict(state["network"])
        for learner, saved in zip(learners, state["learners"], strict=True):
            learner.load_state_dict(saved)
        step = state["step"]
        say(f"resumed at step {step}")
    rng = random.Random(f"{plan.seed} {step}")  # noqa: S311 - reproducible text, no secret
    progress = Progress(say, step)
    feed = batches(
        rng, lambda: draw(rng, form, mixture_at(progress.step)), plan.tokens_per_step, plan.longest
    )
    saved_at = time.monotonic()
    while progress.step < plan.steps:
        for learner in learners:
            faster = MUON_RATE if isinstance(learner, torch.optim.Muon) else 1.0
            for group in learner.param_groups:
                group["lr"] = plan.rate * plan.rate_at(progress.step) * faster
        ids, targets = (tensor.to(device) for tensor in next(feed))
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            hidden = network(ids)
            chosen = targets >= 0
            logits = network.head(hidden[chosen]).float()
        loss = functional.cross_entropy(logits, targets[chosen])
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for learner in learners:
            learner.step()
            learner.zero_grad()
        right = (logits.argmax(-1) == targets[chosen]).float().mean()
        progress.note(ids.numel(), loss.item(), float(right))
        if time.monotonic() - saved_at > plan.save_every_s or progress.step == plan.steps:
            save(network, learners, progress.step, state_path)
            saved_at = time.monotonic()
    return network


class Progress:
    """Counts steps and says every so often how they went."""

    def __init__(self, say: Callable[[str], None], step: int, every: int = 50) -> None:
        self.step = step
        self._say, self._every = say, every
        self._clear()

    def _clear(self) -> None:
        self._tokens, self._loss, self._right, self._since = 0, 0.0, 0.0, time.monotonic()

    def note(self, tokens: int, loss: float, right: float) -> None:
        """One more step: its tokens, its loss, and the share of targets that were the likeliest."""
        self.step += 1
        self._tokens += tokens
        self._loss += loss / self._every
        self._right += right / self._every
        if self.step % self._every == 0:
            speed = self._tokens / (time.monotonic() - self._since)
            self._say(
                f"step {self.step}  loss {self._loss:.3f}  right {self._right:.3f}  {speed:.0f} tokens/s"
            )
            self._clear()


def save(network: Network, learners: list[torch.optim.Optimizer], step: int, path: Path) -> None:
    """Write the state beside the old one, then take its place."""
    state: dict[str, Any] = {
        "shape": network.shape.as_dict(),
        "network": network.state_dict(),
        "learners": [learner.state_dict() for learner in learners],
        "step": step,
    }
    torch.save(state, fresh := path.with_suffix(".new"))
    fresh.replace(path)
