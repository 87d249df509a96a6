"""Which repo an artifact goes to, and where in it each file lies, as people look for them on the Hub."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from pydantic import JsonValue

from convert.errors import Failure, UsageFailure
from convert.formats.shipping import shipping
from convert.publish.bundle import Candidate, ShippedFile
from convert.recipe import Publish, Recipe, Target
from convert.source import is_legal
from convert.store import MANIFEST_NAME, Manifest
from convert.store.manifest import inside

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
_T = TypeVar("_T", "Candidate", "Target")


def suffix(artifact: Candidate | Target) -> str:
    """Return the end of its repo's name: GGUF, ONNX, GPTQ-Int4."""
    _, format_name, options = _facts(artifact)
    return shipping(format_name, options).suffix.format(**options)


def folders(artifact: Candidate | Target, *, is_alone: bool) -> tuple[str, str]:
    """Return where in the repo its files go, and where its documents."""
    target, format_name, options = _facts(artifact)
    return shipping(format_name, options).folders(target, options, is_alone=is_alone)


def _facts(artifact: Candidate | Target) -> tuple[str, str, Mapping[str, JsonValue]]:
    if isinstance(artifact, Candidate):
        return artifact.target, artifact.manifest.format, artifact.manifest.options
    return artifact.name, artifact.format_name, artifact.own_options


def title(manifest: Manifest, recipe_name: str) -> str:
    """Name the model: the last part of its repo, or the recipe's name where it came from a folder."""
    return manifest.known_by.rpartition("/")[2] if manifest.known_by else recipe_name


def namer(
    recipe: Recipe, wanted: Publish, user: str, manifest: Manifest
) -> Callable[[Candidate | Target], str]:
    """Return what names an artifact's repo: the recipe's template, filled in."""
    model = title(manifest, recipe.name)

    def name_of(artifact: Candidate | Target) -> str:
        name = wanted.repo.format(user=user, model=model, target=suffix(artifact))
        if not _REPO.fullmatch(name) or ".." in name or "--" in name or name.endswith((".git", ".", "-")):
            raise UsageFailure(
                f"publish.repo: {wanted.repo} becomes {name!r}, which is no repo name",
                "a name is made of letters, digits, '.', '_' and '-', at most 96; write it out in the recipe",
            )
        return name

    return name_of


def by_repo(artifacts: Iterable[_T], name_of: Callable[[_T], str]) -> Mapping[str, list[_T]]:
    """Group artifacts by the name of their repo; a name without any has an empty list."""
    found: dict[str, list[_T]] = defaultdict(list)
    for artifact in artifacts:
        found[name_of(artifact)].append(artifact)
    return found


def placed(candidates: Sequence[Candidate], *, is_alone: bool | None = None) -> tuple[Candidate, ...]:
    """Give each artifact of one repo its folders, so that no files collide.

    `is_alone` where the recipe has no other for that repo, left out or not.
    """
    alone = len(candidates) == 1 if is_alone is None else is_alone
    placed = []
    for candidate in sorted(candidates, key=lambda each: each.target):
        prefix, documents = folders(candidate, is_alone=alone)
        placed.append(replace(candidate, prefix=prefix, documents=documents))
    return tuple(placed)


def files(candidates: Iterable[Candidate]) -> tuple[ShippedFile, ...]:
    """List every file of the artifacts, and each manifest; a license that several have is there once."""
    found: dict[str, ShippedFile] = {}
    for candidate in candidates:
        for file in _of(candidate):
            other = found.setdefault(file.path, file)
            if other.key != file.key:
                raise Failure(
                    f"{candidate.target}: its {file.path} differs from the other artifacts' one in the repo",
                    "build them together, or name a repo for each in publish.repo with {target}",
                )
    return tuple(found[path] for path in sorted(found))


def _of(candidate: Candidate) -> Iterator[ShippedFile]:
    for entry in candidate.manifest.files:
        content = inside(candidate.folder, entry.path)
        yield ShippedFile(candidate.shipped_path(entry.path), entry.size_bytes, entry.sha256, content)
        if is_legal(entry.path) and candidate.prefix:  # the Hub shows the one at the root
            yield ShippedFile(entry.path, entry.size_bytes, entry.sha256, content)
    manifest = (candidate.folder / MANIFEST_NAME).read_bytes()
    yield ShippedFile.made(f"{candidate.documents}{MANIFEST_NAME}", manifest)
