"""What a verification is asked to do: the artifacts, the questions, and who watches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from convert.child import Limits
from convert.recipe import Gates
from verify import measure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from verify.harness import Tasks
    from verify.load import LoadPlan
    from verify.report import ArtifactResult
    from verify.scenarios.pack import Pack


@dataclass(frozen=True)
class Subject:
    """An artifact to judge: a folder, a bare file, or a server's address."""

    name: str
    path: Path | str
    gates: Gates = field(default_factory=Gates)
    limits_of: Literal["recipe", "default"] = "default"  # whose the gates are
    runtime: str | None = None  # none: the one that suits it
    server: str | None = None  # is started for it, and asked in a runtime's place
    options: Mapping[str, Any] = field(default_factory=dict)  # the runtime's own
    secret_names: tuple[str, ...] = ()  # environment variables that it needs


@dataclass(frozen=True)
class Plan:
    """What is asked and measured; every artifact gets the same."""

    packs: tuple[Pack, ...]
    text: str  # that logits are compared on
    text_name: str
    texts: tuple[tuple[str, str], ...] = ()  # in its place: texts of several kinds, by name
    long_context: int | None = None  # tokens of a long text; none: none is asked
    tokens: int = 4096  # of it
    window: int = 512  # llama-perplexity's own
    context: int = 2048
    threads: int | None = None
    speed: measure.SpeedPlan = field(default_factory=measure.SpeedPlan)
    # For all of it; infinite: everything is asked. None: everything, and no time is measured first.
    budget_s: float | None = None
    is_sample: bool = False  # much less is asked where that says enough
    tasks: Tasks | None = None  # of lm-evaluation-harness
    baselines: tuple[str, ...] = ()  # ways to quantize the source when it is opened, measured next to it
    load: LoadPlan | None = None  # none: no server is asked by many at once
    measures: Literal["all", "quality", "speed"] = "all"
    limits: Limits = field(default_factory=Limits)
    asked_sha256: str | None = None  # of the recipe and its files, when these questions were read
    cache: Path | None = None  # for the source's logits; none: a temporary folder


class Watch(Protocol):
    """What shows the progress of a verification."""

    def doing(self, name: str, what: str) -> None:
        """Show what is being done with an artifact, or with the source."""

    def found(self, result: ArtifactResult) -> None:
        """Show an artifact's result so far."""


class Silence:
    """A watch that shows nothing."""

    def doing(self, name: str, what: str) -> None:
        """Show nothing."""

    def found(self, result: ArtifactResult) -> None:
        """Show nothing."""
