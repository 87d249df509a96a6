"""Download the whole source, and check its digests."""

from dataclasses import replace

from convert.pipeline.run import AnyTrial
from convert.source import fetch, fetch_adapter


def download(trial: AnyTrial) -> AnyTrial:
    """Fetch every file of the source and of its adapter, unless a stage before did."""
    adapter = trial.adapter
    if adapter is None and trial.adapter_listing is not None:
        adapter = fetch_adapter(trial.adapter_listing, hub=trial.hub, progress=trial.progress)
    files = trial.files or fetch(trial.listing, hub=trial.hub, progress=trial.progress)
    return replace(trial, files=files, adapter=adapter)
