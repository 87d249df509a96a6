"""Gather what may be published: artifacts that passed or are waived, as repos with their cards."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convert.publish import stage

if TYPE_CHECKING:
    from convert.pipeline.run import Run


def gather(run: Run) -> Run:
    """Make the repos; remark on what is waived, and on what is kept without being described."""
    settings = stage.Settings(run.recipe, run.publish, run.store, run.hub, run.progress, tuple(run.only))
    gathered = stage.gather(settings, run.user, run.destination if run.is_reachable else None)
    for bundle in gathered.bundles:
        for kept in bundle.kept:
            run.remark(f"kept: {kept.folder}: the card names it, and no more: {kept.why}")
        for candidate in bundle.candidates:
            for waiver in candidate.waived:
                run.remark(f"waived: {candidate.target}: {waiver.gate}: {waiver.reason}")
    return replace(run, gathered=gathered)
