"""Which repo an artifact goes to, and where in it each file lies, as people look for them on the Hub."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from convert.errors import Failure, UsageFailure
from convert.formats.shipping import shipping
from convert.publish.bundle import ShippedFile
from convert.source import is_legal
from convert.store import MANIFEST_NAME
from convert.store.manifest import inside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from convert.publish.bundle import Candidate
    from convert.publish.gate import Asked
    from convert.recipe import Publish
    from convert.store import Manifest

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)


@dataclass(frozen=True)
class Member:
    """An artifact as far as its place depends on it."""

    target: str
    format: str
    options: Mapping[str, JsonValue]

    @classmethod
    def of(cls, candidate: Candidate) -> Self:
        """One that stands."""
        return cls(candidate.target, candidate.manifest.format, candidate.manifest.options)

    @classmethod
    def asked(cls, asked: Asked) -> Self:
        """One that the recipe wants."""
        return cls(asked.target, asked.format, asked.options)

    @property
    def suffix(self) -> str:
        """Return the end of the repo's name: GGUF, ONNX, GPTQ-Int4."""
        return shipping(self.format).suffix.format(**self.options)

    def folders(self, *, is_alone: bool) -> tuple[str, str]:
        """Return where in the repo its files go, and where its documents."""
        return shipping(self.format).folders(self.target, self.options, is_alone=is_alone)


def title(manifest: Manifest, recipe_name: str) -> str:
    """The model's name: its repo's last part, or the recipe's where it lay in a folder."""
    return manifest.source.repo.rpartition("/")[2] if manifest.source.repo else recipe_name


def repo_name(wanted: Publish, user: str, model: str, target: str) -> str:
    """The recipe's template, filled in."""
    name = wanted.repo.format(user=user, model=model, target=target)
    if not _REPO.fullmatch(name) or ".." in name or "--" in name or name.endswith((".git", ".", "-")):
        raise UsageFailure(
            f"publish.repo: {wanted.repo} becomes {name!r}, which is no repo name",
            "a name is made of letters, digits, '.', '_' and '-', of at most 96; write it out in the recipe",
        )
    return name


def placed(candidates: Sequence[Candidate], *, is_alone: bool | None = None) -> tuple[Candidate, ...]:
    """Give each artifact of one repo its place, so that nothing lies on anything else.

    `is_alone` where the recipe has no other for that repo, be it left out or not.
    """
    alone = len(candidates) == 1 if is_alone is None else is_alone
    found = []
    for candidate in sorted(candidates, key=lambda each: each.target):
        prefix, documents = Member.of(candidate).folders(is_alone=alone)
        found.append(replace(candidate, prefix=prefix, documents=documents))
    return tuple(found)


def files(candidates: Iterable[Candidate]) -> tuple[ShippedFile, ...]:
    """Every file of the artifacts, and each manifest; the same licence in several of them lies there once."""
    found: dict[str, ShippedFile] = {}
    for candidate in candidates:
        for file in _of(candidate):
            other = found.setdefault(file.path, file)
            if other.key != file.key:
                raise Failure(
                    f"{candidate.target}: its {file.path} is not the one of the other artifacts in the repo",
                    "build them together, or name a repo for each in publish.repo with {target}",
                )
    return tuple(found[path] for path in sorted(found))


def _of(candidate: Candidate) -> Iterator[ShippedFile]:
    for entry in candidate.manifest.files:
        content = inside(candidate.folder, entry.path)
        yield ShippedFile(candidate.shipped_path(entry.path), entry.size_bytes, entry.sha256, content)
        if is_legal(entry.path) and candidate.prefix:  # the Hub shows the one that lies at the root
            yield ShippedFile(entry.path, entry.size_bytes, entry.sha256, content)
    manifest = (candidate.folder / MANIFEST_NAME).read_bytes()
    yield ShippedFile.made(f"{candidate.documents}{MANIFEST_NAME}", manifest)
