"""Choose the artifacts: the recipe's, or those of them that --only names."""

from dataclasses import replace

from convert import recipe
from convert.pipeline.run import Run


def choose(run: Run) -> Run:
    """Choose first: for a target that is left out no format is loaded, and no tool is asked."""
    return replace(run, targets=recipe.choose(run.recipe, run.only))
