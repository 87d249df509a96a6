"""A bundle of the small artifacts, with a card and attestations of a few bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.publish.assembly import Makers, assemble
from convert.publish.gate import examine
from convert.recipe import Publish
from tests.publish import artifacts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from convert.publish.bundle import Bundle, Candidate


def attest(candidate: Candidate, others: Mapping[str, bytes]) -> dict[str, bytes]:  # noqa: ARG001
    """Stand in for what vouches for an artifact."""
    return {"provenance.json": candidate.manifest_sha256.encode()}


def render(bundle: Bundle) -> dict[str, bytes]:
    """Stand in for the card."""
    listed = "".join(f"- {file.path}\n" for file in bundle.files)
    return {"README.md": f"---\nlicense: mit\n---\n# {bundle.title}\n{listed}".encode()}


def release(bundle: Bundle) -> dict[str, bytes]:
    """Stand in for what vouches for the repo."""
    return {"release.json": "\n".join(file.sha256 for file in bundle.files).encode()}


def bundle(folder: Path, publish: str = "{}", *, user: str = "ann", size_bytes: int = 40_000) -> Bundle:
    """Build, report and assemble."""
    recipe, root = artifacts.stand(folder, publish, size_bytes=size_bytes)
    report, candidates = examine(recipe, artifacts.asked(recipe), root / recipe.name)
    (made,) = assemble(
        recipe,
        recipe.publish or Publish(),
        report,
        candidates,
        user=user,
        source_card={"license": "mit"},
        makers=Makers(attest, render, release),
    )
    return made
