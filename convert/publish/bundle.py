"""What is published together: each byte follows from the artifacts, their report and the recipe alone."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from convert.pick.known import Known
from convert.recipe import TargetOptions
from convert.store import AdapterRecord, Manifest
from verify.report import ArtifactResult, Report

README = "README.md"
ROOT = "."  # names a repo's own folder where a folder has to be named


@dataclass(frozen=True)
class ShippedFile:
    """One file of the repo: on disk already, or made to be published."""

    path: str  # in the repo, with forward slashes
    size_bytes: int
    sha256: str
    content: Path | bytes = field(repr=False)

    @classmethod
    def made(cls, path: str, content: bytes) -> Self:
        """Ship bytes that are in no file."""
        return cls(path, len(content), hashlib.sha256(content).hexdigest(), content)

    @property
    def key(self) -> tuple[str, int, str]:
        """Return what makes two of them the same."""
        return self.path, self.size_bytes, self.sha256

    def read(self) -> bytes:
        """Return the content; for files that fit into memory."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True)
class Waiver:
    """A gate that the recipe lets fail, and why."""

    gate: str
    reason: str


@dataclass(frozen=True)
class Candidate:
    """An artifact that may be published: it passed, or the recipe waives what it failed."""

    target: str
    folder: Path
    manifest: Manifest
    manifest_sha256: str  # of the manifest's bytes: equal to the report's
    result: ArtifactResult
    waived: tuple[Waiver, ...] = ()  # of the gates that it did fail, or that were not measured
    prefix: str = ""  # of its files in the repo: "" or "cpu-int4/"
    documents: str = ""  # of manifest.json, report.json and what attests it: "" or "gguf-Q8_0/"

    def shipped_path(self, path: str) -> str:
        """Return the path in the repo of one of the manifest's files."""
        return f"{self.prefix}{path}"


@dataclass(frozen=True)
class Kept:
    """An artifact in the repo that we cannot re-verify: the card names it, and it stays."""

    folder: str  # of its documents: gguf-Q8_0
    paths: frozenset[str]  # everything in the repo
    why: str  # it is not described, for the person who publishes

    @property
    def documents(self) -> str:
        """Return the same as a candidate's."""
        return "" if self.folder == ROOT else f"{self.folder}/"


@dataclass(frozen=True)
class Origin:
    """Where people get a repo's files from; a card's commands go by it."""

    kind: Literal["hub", "folder", "store", "registry"] = "hub"
    address: str = ""  # of the repo: s3://bucket/models/Model-GGUF; a folder's is no part of what is shipped
    tag: str = ""  # a registry's, which names the newest release


@dataclass(frozen=True)
class Bundle:
    """One repo, as it is to be."""

    repo: str  # owner/name
    title: str  # the model: Qwen-7B-Chat
    suffix: str  # what the ecosystem calls such a repo: GGUF, ONNX, GPTQ-Int4, AWQ
    candidates: tuple[Candidate, ...]  # by target; never none
    report: Report  # of these artifacts and no other
    source_card: Mapping[str, Any] = field(default_factory=dict)  # the front matter of the source's README.md
    files: tuple[ShippedFile, ...] = ()  # by path
    is_private: bool = True
    revision: str = "main"  # the branch
    tag: str | None = None
    is_pull_request: bool = False
    collection: str | None = None
    kept: tuple[Kept, ...] = ()
    head: str | None = None  # the state of the repo that the card was made for
    other_formats: frozenset[str] = frozenset()  # of the recipe for this repo, left out now
    origin: Origin = field(default_factory=Origin)
    model: Known | None = field(default=None, repr=False)  # as `pick` knows it
    options: Mapping[str, TargetOptions] = field(default_factory=dict, repr=False)  # the recipe's, by format

    @property
    def adapter(self) -> AdapterRecord | None:
        """Return the adapter that was merged into the source."""
        return self.candidates[0].manifest.adapter

    @property
    def license(self) -> str | None:
        """Return the source's, as the Hub names it."""
        return self.candidates[0].manifest.license

    @property
    def size_bytes(self) -> int:
        """Return the size of all files together."""
        return sum(file.size_bytes for file in self.files)

    def with_made(self, made: Mapping[str, bytes]) -> Self:
        """Add files that were made to be published, by their paths in the repo."""
        added = [ShippedFile.made(path, content) for path, content in made.items()]
        clash = {file.path for file in self.files} & set(made)
        if clash:
            raise ValueError(f"{self.repo}: {', '.join(sorted(clash))} would be there twice")
        return replace(self, files=tuple(sorted((*self.files, *added), key=lambda file: file.path)))
