"""Warn where a model is judged by what was learned from: its figures would flatter it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.calibration import learned_texts
from convert.pipeline.judged import judged_texts
from convert.pipeline.likeness import likeness

if TYPE_CHECKING:
    from convert.pipeline.run import Run

# Independent texts of one kind share 2 to 10 % of their runs of words: prompts, and how things are said.
TOO_ALIKE = 0.25


def heed_likeness(run: Run) -> Run:
    """Compare the calibration text with each text that a verification takes, and name those too alike."""
    source, calibration = run.source.texts, run.recipe.calibration
    if source is None or calibration is None:
        return run
    for name, text in judged_texts(run):
        found = likeness(text, learned_texts(source, calibration, run.progress))
        if found >= TOO_ALIKE:
            run.remark(
                f"warning: {found:.0%} of {name} is in the calibration text ({source.label}) too: "
                "a verification on it shows less loss than there is; take another text for one of them"
            )
    return run
