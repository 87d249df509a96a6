"""Download the whole source, and check its digests."""

from dataclasses import replace

from convert.pipeline.run import AnyTrial
from convert.source import fetch


def download(trial: AnyTrial) -> AnyTrial:
    """Fetch every file of the source, unless a stage before did."""
    return replace(trial, files=trial.files or fetch(trial.listing, hub=trial.hub, progress=trial.progress))
