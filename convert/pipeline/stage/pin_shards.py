"""Pin the shards of a source of which a part is read: each is fetched when it is."""

from dataclasses import replace

from convert.pipeline.run import Run
from convert.pipeline.stage.download import download
from convert.source.shards import fetch_lazily


def pin_shards(run: Run) -> Run:
    """Fetch the headers of all shards; what has no shards is downloaded whole."""
    found = fetch_lazily(run.listing, hub=run.hub, progress=run.progress, remark=run.remark)
    if found is None:
        return download(run)
    files, absent = found
    return replace(run, files=files, absent=absent)
