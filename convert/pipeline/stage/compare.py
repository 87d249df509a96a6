"""Compare the artifacts that are wanted with those that there are."""

from collections.abc import Mapping
from dataclasses import replace

from convert.formats import find_format
from convert.pipeline.run import Run, Wanted
from convert.pipeline.transform import transform_key
from convert.recipe import Target
from convert.store import artifact_key
from convert.version import changed_code


def compare(run: Run) -> Run:
    """Compute each artifact's key, and see whether the artifact with that key is there."""
    digests = run.source.digests
    if digests is None:
        wanted = tuple(map(_unbuilt, run.targets))
    else:
        wanted = tuple(_compare(run, target, digests) for target in run.targets)
    return replace(run, wanted=wanted, pending=wanted)


def _unbuilt(target: Target) -> Wanted:
    format_ = find_format(target.format_name)
    format_.tools(target.options, target.name)  # a tool that is not installed is refused here, as with a key
    return Wanted(target, format_, key="", is_up_to_date=False)


def _known_by(run: Run) -> dict[str, str | None]:
    """Name the repo that an adapted model is known by; an artifact without an adapter keeps its key."""
    return {"adapter": run.repo} if run.adapter else {}


def _compare(run: Run, target: Target, digests: Mapping[str, str]) -> Wanted:
    format_, recipe, texts = find_format(target.format_name), run.recipe, run.source.texts
    inputs = format_.inputs(target.options, recipe)
    if changes := changed_code():
        inputs |= {"changed code": changes}
    learns = target.options.learns_by is not None or recipe.learns_scales
    if learns and texts and recipe.calibration:
        from convert.calibration import identity  # noqa: PLC0415 - brings numpy

        inputs |= identity(texts, recipe.calibration)
    key = artifact_key(
        source_digests=digests,
        target=target.name,
        options=target.own_options,
        format_revision=format_.REVISION,
        tools=format_.tools(target.options, target.name),
        also={"title": run.title, "repo": run.listing.repo, **_known_by(run), **transform_key(run), **inputs},
    )
    is_there = run.store.is_up_to_date(recipe.name, target.name, key) or (
        run.remote is not None and run.remote.holds(recipe.name, target.name, key)
    )
    return Wanted(target, format_, key, is_there)
