"""Where calibration texts come from, and what tells one choice of them from another before any is read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from convert.calibration import dataset, pack
from convert.calibration.text import read_text
from convert.recipe.lookup import expand_home
from convert.source import Hub

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from convert.calibration.dialogue import Dialogue
    from convert.progress import Progress
    from convert.recipe.model import Calibration
    from convert.source import Listing


class Source(Protocol):
    """Texts and conversations, in an order that the seed settles."""

    @property
    def label(self) -> str:
        """How manifests name it; no path of this machine."""

    @property
    def where(self) -> str:
        """How messages name it."""

    @property
    def is_endless(self) -> bool:
        """Whether there is always more to be had."""

    def identity(self) -> Mapping[str, str]:
        """What distinguishes it, for the key of an artifact; a commit stands for all that it holds."""

    def read(self, max_bytes: int, progress: Progress) -> Iterator[str | Dialogue]:
        """Give about so much of it; all of it where there is less, and no end where there is none."""


@dataclass(frozen=True)
class TextFile:
    """A person's own file."""

    path: Path
    seed: int
    is_endless = False

    @property
    def label(self) -> str:
        return self.path.name

    @property
    def where(self) -> str:
        return str(self.path)

    def identity(self) -> Mapping[str, str]:
        with self.path.open("rb") as stream:
            return {"calibration": hashlib.file_digest(stream, "sha256").hexdigest()}

    def read(self, max_bytes: int, progress: Progress) -> Iterator[str | Dialogue]:  # noqa: ARG002
        return read_text(self.path, max_bytes, self.seed)


@dataclass(frozen=True)
class Packs:
    """The shipped packs."""

    names: tuple[str, ...]
    seed: int
    is_endless = True

    @property
    def label(self) -> str:
        return "+".join(self.names)

    @property
    def where(self) -> str:
        return f"calibration packs {self.label}"

    def identity(self) -> Mapping[str, str]:
        return {"calibration": f"{self.label} {pack.digest(self.names)}"}

    def read(self, max_bytes: int, progress: Progress) -> Iterator[str | Dialogue]:  # noqa: ARG002
        return pack.dialogues(self.names, self.seed)


@dataclass(frozen=True)
class Dataset:
    """Files of a Hub dataset at a commit."""

    listing: Listing
    hub: Hub
    seed: int
    is_endless = False

    @property
    def label(self) -> str:
        return f"{self.listing.repo}@{self.listing.commit}"

    @property
    def where(self) -> str:
        return str(self.listing.repo)

    def identity(self) -> Mapping[str, str]:
        return {"calibration": self.label}

    def read(self, max_bytes: int, progress: Progress) -> Iterator[str | Dialogue]:
        return dataset.read(self.listing, self.hub, max_bytes, self.seed, progress)


def find_source(calibration: Calibration, folder: Path, hub: Hub | None = None) -> Source:
    """What a recipe names, a dataset pinned to its commit; a path is taken from `folder`, the recipe's."""
    if calibration.text is not None:
        return TextFile(folder / expand_home(calibration.text), calibration.seed)
    if calibration.packs is not None:
        return Packs(calibration.packs, calibration.seed)
    hub = hub or Hub.from_environment()
    return Dataset(dataset.find(str(calibration.dataset), hub), hub, calibration.seed)


def identity(source: Source, calibration: Calibration) -> dict[str, str]:
    """All that decides which tokens an artifact learns from."""
    settings = calibration.model_dump_json(include={"samples", "length", "seed"})
    return {**source.identity(), "calibration settings": settings}
