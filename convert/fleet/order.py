"""An order: one command for a node, what must be done before it, and what the node must have."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# An order that failed for a reason that may pass (a node, a network) is tried so many times.
MOST_TRIES = 3


@dataclass(frozen=True)
class Order:
    """One command of modelwright for one node."""

    recipe: str  # its name
    stage: str  # convert, part, assemble, verify or publish
    subject: str  # what of the recipe: targets, a part, a class of nodes
    words: tuple[str, ...]  # of the command, without its targets
    recipe_path: str
    recipe_sha256: str
    targets: tuple[str, ...] = ()  # that it makes or judges
    after: tuple[str, ...] = ()  # the names of orders that must be over
    needs: Mapping[str, float] = field(default_factory=dict)  # resources by name, besides CPUs
    tools: Mapping[str, str] = field(default_factory=dict)  # versions that decide the bytes
    recipe_text: str = ""  # for nodes that do not see the file, where artifacts are in an object store
    cpus: int = 1
    estimated_s: float = 0.0
    at_most_s: float | None = None  # the budget of a verification
    wants_gpu: bool = False  # where any node has one
    is_local: bool = False  # carried out where the fleet was started, with what only that machine has

    @property
    def name(self) -> str:
        """Name it, as dashboards and messages do."""
        return f"{self.recipe}/{self.stage}/{self.subject}"

    @property
    def command(self) -> tuple[str, ...]:
        """Write the command, with the targets that are left."""
        return (*self.words, *(word for name in self.targets for word in ("--only", name)))


class State(StrEnum):
    """The state of an order."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    GATE_FAILED = "gate failed"
    FAILED = "failed"
    SKIPPED = "skipped"  # since one that it needs failed


@dataclass(frozen=True)
class Outcome:
    """What came of an order on a node."""

    exit_code: int
    answer: Mapping[str, Any] | None = None  # the command's, as JSON
    error: str = ""
    hint: str = ""
    node: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    gpu_s: float = 0.0


@dataclass
class Record:
    """An order's story so far."""

    order: Order
    state: State = State.WAITING
    tries: int = 0
    outcome: Outcome | None = None
    wall_s: float = 0.0  # of all tries
    cpu_s: float = 0.0
    gpu_s: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count what a try has cost."""
        self.outcome = outcome
        self.wall_s += outcome.wall_s
        self.cpu_s += outcome.cpu_s
        self.gpu_s += outcome.gpu_s
