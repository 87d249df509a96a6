"""GPTQ, by GPTQModel or by modelwright itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.formats.gptq import native
from convert.formats.gptq.gptqmodel import GptqModelFormat

if TYPE_CHECKING:
    from convert.formats.base import Planned
    from convert.model.source import Model, Weights
    from convert.progress import Progress
    from convert.recipe import Recipe


class GptqFormat(GptqModelFormat):
    """GPTQ's files, made by the engine that a recipe names."""

    def tools(self, options: Any, target: str) -> dict[str, str]:
        return native.tools() if options.is_native else super().tools(options, target)

    def prepare(self, model: Model, options: Any, recipe: Recipe) -> Any:
        if options.is_native:
            return native.prepare(model, options, recipe)
        return super().prepare(model, options, recipe)

    def learn(
        self,
        prepared: Any,
        model: Model,
        options: Any,
        recipe: Recipe,
        *,
        weights: Weights,
        progress: Progress,
    ) -> Any:
        learn = native.learn if options.is_native else super().learn
        return learn(prepared, model, options, recipe, weights=weights, progress=progress)

    def lay_out(self, model: Model, options: Any, target: str, prepared: Any) -> Planned:
        if options.is_native:
            return native.lay_out(model, options, target, prepared)
        return super().lay_out(model, options, target, prepared)


FORMAT = GptqFormat("gptq", revision=2)
