"""Pin the source to a commit, and bring all of it but the weights."""

from dataclasses import replace

from convert.calibration import find_source
from convert.pipeline.run import PinnedSource, Run
from convert.source import fetch, fetch_small, list_source


def pin(run: Run) -> Run:
    """List the source, fetch its small files, and find the calibration texts that a target needs."""
    recipe, hub = run.recipe, run.hub
    listing = list_source(str(recipe.folder or recipe.model), recipe.revision, hub=hub)
    # Only its content identifies a folder, so that is read now; the digests of unchanged files are kept.
    small = fetch_small(listing, hub=hub, progress=run.progress)
    known = fetch(listing, hub=hub, progress=run.progress) if listing.folder else small
    # What the listing says of a repo's file is known before it is here, and is the same afterwards.
    digests = {
        name: str(listing.files[name].blob or digest.sha256 or digest.git_sha1)
        for name, digest in sorted({**known.pending, **known.files}.items())
    }
    learns = any(target.options.learns_by is not None for target in run.targets)
    texts = (
        find_source(recipe.calibration, recipe.path.parent, hub) if recipe.calibration and learns else None
    )
    return replace(
        run, listing=listing, source=PinnedSource(listing, small, digests, tuple(small.pending), texts)
    )
