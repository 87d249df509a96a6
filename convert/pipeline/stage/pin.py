"""Pin the source and its adapter to commits, and bring all of the source but its weights."""

from dataclasses import replace

from convert.device import why_not
from convert.pipeline.run import PinnedSource, Run
from convert.recipe.reader import refuse_at
from convert.source import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Pinned,
    fetch_adapter,
    fetch_small,
    list_source,
)

# What trainers save next to an adapter.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "chat_template.jinja")


def pin(run: Run) -> Run:
    """List the source, fetch its small files, and find the calibration texts that a target needs."""
    recipe, hub = run.recipe, run.hub
    listing = list_source(str(recipe.folder or recipe.model), recipe.revision, hub=hub)
    small = fetch_small(listing, hub=hub, progress=run.progress)
    adapter = _pin_adapter(run)
    unused = [name for name in (ADAPTER_CONFIG, *ADAPTER_WEIGHTS) if name in listing.files]
    if unused and adapter is None:
        run.remark(f"{listing.model}: {', '.join(unused)}: not merged, since the recipe names no adapter")
    learns = any(target.options.learns_by is not None for target in run.targets)
    texts = None
    if recipe.calibration and (learns or recipe.learns_scales):
        from convert.calibration import find_source  # noqa: PLC0415 - brings numpy

        if why := why_not(recipe.calibration.device):
            refuse_at(recipe, ("calibration", "device"), why, "write device: cpu")
        texts = find_source(recipe.calibration, recipe.path.parent, hub)
    source = PinnedSource(listing, small, tuple(small.pending), texts)
    return replace(run, listing=listing, source=source, adapter=adapter)


def _pin_adapter(run: Run) -> Pinned | None:
    """Fetch the adapter whole: it is small, and whether it fits is known before the weights are fetched."""
    if run.recipe.adapter_place is None:
        return None
    listing = list_source(*run.recipe.adapter_place, hub=run.hub)
    if ignored := [name for name in TOKENIZER_FILES if name in listing.files]:
        run.remark(
            f"{listing.model}: {', '.join(ignored)}: not used; tokens and template are the model's own"
        )
    return fetch_adapter(listing, hub=run.hub, progress=run.progress)
