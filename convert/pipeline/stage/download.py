"""Download the whole source, and check its digests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convert.source import fetch

if TYPE_CHECKING:
    from convert.pipeline.run import AnyTrial


def download(trial: AnyTrial) -> AnyTrial:
    """Fetch every file of the source, unless a stage before did."""
    return replace(trial, files=trial.files or fetch(trial.listing, hub=trial.hub, progress=trial.progress))
