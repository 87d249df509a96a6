"""Gather what may be published: artifacts that passed or are waived, as repos with their cards."""

from dataclasses import replace

from convert.pipeline.run import Run
from convert.publish.gather import gather as gather_bundles
from convert.publish.publication import Publication


def gather(run: Run) -> Run:
    """Make the repos; remark on what is waived, and on what is kept without being described."""
    bundles = gather_bundles(
        Publication(
            recipe=run.recipe,
            wanted=run.publish,
            targets=run.targets,
            folder=run.store.root / run.recipe.name,
            hub=run.hub,
            source=run.source.small if run.source else None,
            destination=run.destination if run.is_reachable else None,
            user=run.user,
            progress=run.progress,
            origin_of=run.destination.origin,
        )
    )
    for bundle in bundles:
        for kept in bundle.kept:
            run.remark(f"kept: {kept.folder}: the card only names it: {kept.why}")
        for candidate in bundle.candidates:
            for waiver in candidate.waived:
                run.remark(f"waived: {candidate.target}: {waiver.gate}: {waiver.reason}")
    return replace(run, bundles=bundles)
