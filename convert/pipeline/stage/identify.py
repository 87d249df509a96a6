"""Identify the source by its content, so that artifacts made of other bytes are not taken for its own."""

from dataclasses import replace

from convert.pipeline.run import Run
from convert.source import fetch
from convert.store import ADAPTER_FOLDER


def identify(run: Run) -> Run:
    """Digest every file that will be read; weights in a folder only if they changed since the last time."""
    source, hub = run.source, run.hub
    files = source.listing.files
    known = fetch(source.listing, hub=hub, progress=run.progress) if source.listing.folder else source.small
    # What the listing says of a repo's file is known before it is here, and is the same afterwards.
    digests = {
        name: str(files[name].blob or digest.sha256 or digest.git_sha1)
        for name, digest in sorted({**known.pending, **known.files}.items())
    }
    if run.adapter is not None:
        digests |= {f"{ADAPTER_FOLDER}{name}": str(each.blob) for name, each in run.adapter.files.items()}
    return replace(run, source=replace(source, digests=digests))
