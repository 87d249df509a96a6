"""GPTQ: weights in groups of few bits, each column made to answer for the errors of those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.formats.gptq import work
from convert.formats.gptq.options import GptqOptions

if TYPE_CHECKING:
    from pydantic import JsonValue

    from convert.formats import Model, Planned, Weights
    from convert.progress import Progress
    from convert.recipe import Recipe

OPTIONS = GptqOptions


def targets(options: GptqOptions) -> tuple[str, ...]:  # noqa: ARG001
    return ("gptq",)


def target_options(options: GptqOptions, target: str) -> dict[str, JsonValue]:  # noqa: ARG001
    return options.model_dump(mode="json")


def tools() -> dict[str, str]:
    return work.tools()


def inputs(options: GptqOptions, recipe: Recipe) -> dict[str, str]:  # noqa: ARG001
    return {}


def prepare(model: Model, options: GptqOptions, recipe: Recipe) -> work.Prepared:
    """Check that the model fits, and cut the text."""
    return work.prepare("gptq", model, options, recipe)


def learn(
    prepared: work.Prepared,
    model: Model,  # noqa: ARG001
    options: GptqOptions,  # noqa: ARG001
    recipe: Recipe,  # noqa: ARG001
    *,
    weights: Weights,
    progress: Progress,  # noqa: ARG001
) -> work.Prepared:
    """Read the headers of the weights."""
    return work.learn("gptq", prepared, weights)


def lay_out(model: Model, options: GptqOptions, target: str, prepared: work.Prepared) -> Planned:
    """Plan GPTQModel's work."""
    return work.lay_out("gptq", model, options, target, prepared)
