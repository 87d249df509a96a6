"""What goes out together: artifacts that passed, and every file that their repo will hold.

A rerun uploads what is missing and nothing else, so each of these bytes follows from the artifacts, their
report and the recipe alone: no time, no chance, no name of a machine. What is made for a repo comes from

    publish.provenance.attest(candidate, signer) -> {name: bytes}, laid below `candidate.documents`
    publish.card.render(bundle) -> {path in the repo: bytes}, README.md among them, all else in `bundle.files`
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from convert.store import Manifest
    from verify.report import ArtifactResult, Report

README = "README.md"
ROOT = "."  # how a repo's own folder is called where a folder has to be named


@dataclass(frozen=True)
class ShippedFile:
    """One file as it will lie in the repo: on disk already, or made for the occasion."""

    path: str  # in the repo, with forward slashes
    size_bytes: int
    sha256: str
    content: Path | bytes = field(repr=False)

    @classmethod
    def made(cls, path: str, content: bytes) -> Self:
        """Ship bytes that lie nowhere else."""
        return cls(path, len(content), hashlib.sha256(content).hexdigest(), content)

    @property
    def key(self) -> tuple[str, int, str]:
        """What makes two of them the same."""
        return self.path, self.size_bytes, self.sha256

    def read(self) -> bytes:
        """Give the content; for files that fit into memory."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True)
class Waiver:
    """A gate that the recipe lets fail, and why."""

    gate: str
    reason: str


@dataclass(frozen=True)
class Candidate:
    """An artifact that may go out: it passed, or the recipe waives what it failed."""

    target: str
    folder: Path
    manifest: Manifest
    manifest_sha256: str  # of the manifest's bytes: equal to the report's
    result: ArtifactResult
    waived: tuple[Waiver, ...] = ()  # of the gates that it did fail, or that were not measured
    prefix: str = ""  # of its files in the repo: "" or "cpu-int4/"
    documents: str = ""  # of manifest.json, report.json and what attests it: "" or "gguf-Q8_0/"

    def shipped_path(self, path: str) -> str:
        """Where one of the manifest's files lies in the repo."""
        return f"{self.prefix}{path}"


@dataclass(frozen=True)
class Kept:
    """An artifact that stands in the repo, and that nobody here can vouch for: it is named, and stays."""

    folder: str  # of its documents: gguf-Q8_0
    paths: frozenset[str]  # all that stands in the repo
    why: str  # it is not described: for who publishes

    @property
    def documents(self) -> str:
        """As a candidate's."""
        return "" if self.folder == ROOT else f"{self.folder}/"


@dataclass(frozen=True)
class Bundle:
    """One repo, as it shall stand."""

    repo: str  # owner/name
    title: str  # the model: Qwen-7B-Chat
    suffix: str  # what the ecosystem calls such a repo: GGUF, ONNX, GPTQ-Int4, AWQ
    candidates: tuple[Candidate, ...]  # by target; never none
    report: Report  # telling of these artifacts and no other
    source_card: Mapping[str, Any] = field(default_factory=dict)  # the front matter of the source's README.md
    files: tuple[ShippedFile, ...] = ()  # by path
    is_private: bool = True
    revision: str = "main"  # the branch
    tag: str | None = None
    is_pull_request: bool = False
    collection: str | None = None
    kept: tuple[Kept, ...] = ()
    other_formats: frozenset[str] = frozenset()  # that the recipe has for this repo, and that are left out

    @property
    def licence(self) -> str | None:
        """The source's, as the Hub names it."""
        return self.candidates[0].manifest.license

    @property
    def size_bytes(self) -> int:
        """What the repo's files weigh together."""
        return sum(file.size_bytes for file in self.files)

    def with_made(self, made: Mapping[str, bytes]) -> Self:
        """Add files that were made for the occasion, by their paths in the repo."""
        added = [ShippedFile.made(path, content) for path, content in made.items()]
        clash = {file.path for file in self.files} & set(made)
        if clash:
            raise ValueError(f"{self.repo}: {', '.join(sorted(clash))} would lie there twice")
        return replace(self, files=tuple(sorted((*self.files, *added), key=lambda file: file.path)))
