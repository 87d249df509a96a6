"""Which repo an artifact goes to, and where in it each file lies, as people look for them on the Hub."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from convert.errors import Failure, UsageFailure
from convert.publish.bundle import ShippedFile
from convert.source import is_legal
from convert.store import MANIFEST_NAME
from convert.store.manifest import inside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from convert.publish.bundle import Candidate
    from convert.recipe import Publish
    from convert.store import Manifest

_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)


def suffix(manifest: Manifest) -> str:
    """What the ecosystem calls a repo of such artifacts."""
    if manifest.format == "gptq":
        return f"GPTQ-Int{manifest.options.get('bits', 4)}"
    return manifest.format.upper()


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


def placed(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Give each artifact of one repo its place, so that nothing lies on anything else."""
    formats = [candidate.manifest.format for candidate in candidates]
    return tuple(
        _placed(candidate, formats) for candidate in sorted(candidates, key=lambda each: each.target)
    )


def _placed(candidate: Candidate, formats: list[str]) -> Candidate:
    own = f"{candidate.target}/"
    match candidate.manifest.format:
        case "gguf":  # all quants side by side, as llama.cpp and Ollama look for them
            return replace(candidate, prefix="", documents=own)
        case "onnx":  # a folder for each provider and precision, as onnxruntime-genai opens them
            options = candidate.manifest.options
            own = f"{options.get('provider')}-{options.get('precision')}/"
        case _ if len(formats) == 1:  # what Transformers loads lies at the root
            own = ""
    return replace(candidate, prefix=own, documents=own)


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
