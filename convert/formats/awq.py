"""AWQ: weights in groups of few bits, columns scaled so that what the activations dwell on loses least."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.formats.gptq import work
from convert.formats.gptq.options import AwqOptions

if TYPE_CHECKING:
    from pydantic import JsonValue

    from convert.formats import Model, Planned, Weights
    from convert.progress import Progress
    from convert.recipe import Recipe

OPTIONS = AwqOptions


def targets(options: AwqOptions) -> tuple[str, ...]:  # noqa: ARG001
    return ("awq",)


def target_options(options: AwqOptions, target: str) -> dict[str, JsonValue]:  # noqa: ARG001
    return options.model_dump(mode="json")


def tools() -> dict[str, str]:
    return work.tools()


def inputs(options: AwqOptions, recipe: Recipe) -> dict[str, str]:  # noqa: ARG001
    return {}


def prepare(model: Model, options: AwqOptions, recipe: Recipe) -> work.Prepared:
    """Check that the model fits, and cut the text."""
    return work.prepare("awq", model, options, recipe)


def learn(
    prepared: work.Prepared,
    model: Model,  # noqa: ARG001
    options: AwqOptions,  # noqa: ARG001
    recipe: Recipe,  # noqa: ARG001
    *,
    weights: Weights,
    progress: Progress,  # noqa: ARG001
) -> work.Prepared:
    """Read the headers of the weights."""
    return work.learn("awq", prepared, weights)


def lay_out(model: Model, options: AwqOptions, target: str, prepared: work.Prepared) -> Planned:
    """Plan GPTQModel's work."""
    return work.lay_out("awq", model, options, target, prepared)
