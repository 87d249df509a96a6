"""What a recipe's transform does to the weights before any format sees them, and what that costs.

What learns is imported where a recipe asks for it.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from convert.deviation import Deviation
from convert.recipe.reader import refuse_at
from convert.store.lessons import held

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import JsonValue

    from convert.learning.asking import Cost
    from convert.model.source import Weights
    from convert.pipeline.run import Run


SCALED = Deviation(
    "channels",
    "the same bits on every machine",
    "scaled by what the text weighs",
    "transform asks for it; the scales are learned by sums that round as the kernels of a CPU do",
)


def transform_key(run: Run) -> dict[str, JsonValue]:
    """Say what distinguishes an artifact of transformed weights; one of others keeps its key."""
    if run.recipe.transform is None:
        return {}
    from convert.learning.scales import REVISION  # noqa: PLC0415

    return {"transform": {**run.recipe.transform.model_dump(mode="json"), "revision": REVISION}}


def transform_deviations(run: Run) -> tuple[Deviation, ...]:
    """Say that the weights of every artifact are not the source's, whatever its format."""
    return () if run.recipe.transform is None else (SCALED,)


def require_transformable(run: Run) -> None:
    """Refuse, by feature, a model whose function scales would change, or that has no place for them."""
    if run.recipe.transform is None:
        return
    from convert.model.folding import REFUSED, folds  # noqa: PLC0415
    from convert.model.forward import RENDERS  # noqa: PLC0415

    beyond = run.model.decoder.features - (RENDERS - REFUSED)
    why = f"cannot be done with {', '.join(sorted(map(str, beyond)))}" if beyond else ""
    if not why and next(folds(run.model.decoder), None) is None:
        why = "no norm and no matrix can hold what others are multiplied by"
    if why:
        refuse_at(run.recipe, ("transform", "scales"), why, "remove transform for this model")


def transform_cost(run: Run) -> Cost | None:
    """Bound what it takes to learn the scales."""
    if run.recipe.transform is None:
        return None
    from convert.learning.asking import cost  # noqa: PLC0415

    return cost(run.model.decoder, run.recipe)


@contextmanager
def transformed(run: Run, weights: Weights) -> Iterator[Weights]:
    """Learn scales, and give the weights as they are then; what is learned of these is kept apart."""
    if run.recipe.transform is None or weights.lessons is None:
        yield weights
        return
    from convert.learning.scales import scaled  # noqa: PLC0415

    with held(weights.lessons) as remove:
        checkpoint = scaled(run.model, run.recipe, weights, run.progress)
        apart = hashlib.sha256(f"{weights.lessons.name} {transform_key(run)}".encode()).hexdigest()[:24]
        yield replace(weights, checkpoint=checkpoint, lessons=weights.lessons.with_name(apart))
        remove()
