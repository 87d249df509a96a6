"""The sources of calibration text, and the digest that distinguishes them before any is read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from convert.calibration import dataset, pack
from convert.calibration.dialogue import Dialogue
from convert.calibration.text import read_text
from convert.digest import sha256_of
from convert.extras import CUPY, installed
from convert.progress import Progress
from convert.recipe.lookup import expand_home
from convert.recipe.model import Calibration
from convert.source import Hub


@dataclass(frozen=True)
class Source:
    """Texts and conversations, in an order that the seed decides."""

    label: str  # in manifests, without a path of this machine
    where: str  # in messages
    identity: Callable[[], str]  # for an artifact's key
    read: Callable[[int, Progress], Iterator[str | Dialogue]]  # about so many bytes, or all
    kinds: tuple[str, ...] = ()  # of dialogue, where they take turns without end

    @property
    def is_endless(self) -> bool:
        """Say whether there is as much as is asked for."""
        return bool(self.kinds)


def find_source(calibration: Calibration, folder: Path, hub: Hub | None = None) -> Source:
    """Find what a recipe names: a file, seen from the recipe's folder, packs, or a dataset at its commit."""
    seed = calibration.seed
    if calibration.text is not None:
        path = folder / expand_home(calibration.text)
        return Source(
            label=path.name,
            where=str(path),
            identity=lambda: sha256_of(path),
            read=lambda max_bytes, _: read_text(path, max_bytes, seed),
        )
    if calibration.packs is not None:
        packs = calibration.packs
        label = "+".join(packs)
        return Source(
            label=label,
            where=f"calibration packs {label}",
            kinds=pack.kinds(packs),
            identity=lambda: f"{label} {pack.digest(packs)}",
            read=lambda *_: pack.dialogues(packs, seed),
        )
    hub = hub or Hub.from_environment()
    listing = dataset.find(str(calibration.dataset), hub)
    label = f"{listing.repo}@{listing.commit}"
    return Source(
        label=label,
        where=str(listing.repo),
        identity=lambda: label,
        read=lambda max_bytes, progress: dataset.read(listing, hub, max_bytes, seed, progress),
    )


def identity(source: Source, calibration: Calibration) -> dict[str, str]:
    """Return all that decides what an artifact learns: the tokens, and a GPU where one reads them."""
    settings = calibration.model_dump_json(include={"samples", "length", "seed"})
    found = {"calibration": source.identity(), "calibration settings": settings}
    if calibration.device == "cuda":
        found["calibration device"] = f"cuda, CuPy {installed(CUPY)}"
    return found
