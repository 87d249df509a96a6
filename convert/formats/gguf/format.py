"""GGUF, the format of llama.cpp: one artifact a quant, all from one read of the source."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from convert.digest import sha256_of
from convert.extras import installed
from convert.formats.base import Format, Planned, Weight, learnable
from convert.formats.gguf import projector, tensors
from convert.formats.gguf.account import (
    deviations_of,
    estimates_of,
    learned_files,
    lost_by,
    notes_of,
    rounding_of,
    with_all_missing,
)
from convert.formats.gguf.budgeted import measure_errors, trial_weights
from convert.formats.gguf.files import PLAIN, codecs_of
from convert.formats.gguf.header import Field, align, tensor_bytes
from convert.formats.gguf.options import PREFIX, GgufOptions, Quant
from convert.formats.gguf.planning import choose_types, file_tensors_of, plan_files
from convert.formats.gguf.scaling import measure_scales, with_scales
from convert.formats.gguf.shared import Shared
from convert.formats.gguf.vocabulary import vocabulary_deviations, vocabulary_fields
from convert.formats.hf.format import promised_type
from convert.formats.hf.tensors import KEPT_AS
from convert.model.family import HEADS
from convert.model.feature import Feature
from convert.model.tensor import Ref, Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from convert.deviation import Deviation
    from convert.formats.gguf.tensors import FileTensor
    from convert.model.decoder import Decoder
    from convert.model.source import Model, Weights
    from convert.progress import Progress
    from convert.recipe import Recipe


class GgufFormat(Format[GgufOptions, Shared]):
    """One artifact a quant, all from one read of the source."""

    name = "gguf"
    REVISION = 2
    RENDERS = frozenset(Feature)  # of which each family's graph has its own

    def renders(self, decoder: Decoder, options: GgufOptions | None = None) -> frozenset[Feature] | None:
        """Take what the family's graph in llama.cpp computes and an importance matrix can learn from."""
        graph = tensors.find_graph(decoder)
        if graph is None:
            return None
        return learnable(self.RENDERS & (graph.renders | graph.lost.keys()), options)

    def limits(self, decoder: Decoder) -> tuple[str, ...]:
        graph = tensors.find_graph(decoder)
        limits = graph.limits if graph else None
        return tuple(limits(decoder)) if limits else ()

    def tools(self, options: GgufOptions, target: str) -> dict[str, str]:
        names = ["gguf"]
        types = (target.removeprefix(PREFIX), options.output_type, options.embedding_type)
        if not set(filter(None, types)) <= PLAIN:
            names.append("llama-cpp-python")
        if options.learns_by is not None:
            names.append("numpy")  # computes the forward pass
        return {name: installed(name) for name in names}

    def inputs(self, options: GgufOptions, recipe: Recipe) -> dict[str, str]:
        if options.imatrix_file is not None:
            return {"imatrix": sha256_of(recipe.locate(options.imatrix_file))}
        return {}

    def prepare(self, model: Model, options: GgufOptions, recipe: Recipe) -> Shared:
        """Turn the vocabulary into fields."""
        from convert.learning.asking import Asked, cost_of_squares  # noqa: PLC0415 - calibration, for some

        vocabulary = {
            key: Field(value, value_type, item_type).packed()
            for key, value_type, value, item_type in vocabulary_fields(model.tokenizer)
        }
        return Shared(
            vocabulary,
            vocabulary_deviations(model.tokenizer),
            options.imatrix is not None,
            part=projector.find_part(model) if options.mmproj else None,
            learning=(
                cost_of_squares(model.decoder, recipe).estimates if options.imatrix == "calibration" else {}
            ),
            asked=Asked.of(model, recipe, f"{self.name}.rounding") if options.rounding == "gptq" else None,
            native=promised_type(model) if options.leave_output_tensor else "",
        )

    def learn(
        self,
        prepared: Shared,
        model: Model,
        options: GgufOptions,
        recipe: Recipe,
        *,
        weights: Weights,
        progress: Progress,
    ) -> Shared:
        """Read or make the importance matrix, where one is asked for."""
        if options.mmproj:
            prepared = replace(prepared, source=weights.checkpoint.tensors)
        if options.leave_output_tensor and (origin := weights.origins.get(Ref(Role.HEAD))):
            kept = KEPT_AS.get(weights.checkpoint.tensors[origin.name].dtype, "F32")
            prepared = replace(prepared, native=kept)
        if prepared.asked:  # before the importance matrix, which comes with it
            asked = prepared.asked.learn(model, recipe, weights, progress)
            prepared = replace(prepared, asked=asked)
        if options.imatrix is not None:
            from convert.formats.gguf.importance import find_importance  # noqa: PLC0415 - brings a forward pass

            importance = find_importance(model, options, recipe, weights, progress)
            prepared = replace(prepared, importance=importance)
        if options.budgets:
            _, listed = file_tensors_of(model)
            measured = measure_errors(
                listed, prepared.importance, options.budgets.values(), weights, progress
            )
            prepared = replace(prepared, measured=measured)
        if Quant.NVFP4 in options.quants:
            model, listed = file_tensors_of(model)
            scales = measure_scales(model.decoder, listed, weights, progress)
            prepared = replace(prepared, scales=scales)
        return prepared

    def lay_out(self, model: Model, options: GgufOptions, target: str, prepared: Shared) -> Planned:
        """Choose every tensor's type and place, and pack the headers."""
        model, listed = file_tensors_of(model)
        prepared = with_all_missing(prepared, model.decoder, listed)
        name = target.removeprefix(PREFIX)
        choice, layouts = plan_files(model, options, name, prepared, listed)
        beyond: tuple[Deviation, ...] = ()
        kept = {HEADS} if any(layer.next_norm for layer in model.decoder.layers) else set()
        encodings = dict(choice.types)
        if prepared.part:
            layouts.append(projector.lay_out(model, prepared.part, prepared.source))
            tower = prepared.part.tensors(prepared.source)
            encodings |= {tensor.name: tensor.type for tensor in tower}
            beyond = tuple(projector.unused(prepared.part, prepared.source))
            kept.add(prepared.part.projector.part)
        return Planned(
            target,
            tuple(layouts),
            files=learned_files(prepared.importance),
            encodings=encodings,
            deviations=(
                *deviations_of(choice, listed, prepared, is_budget=name in options.budgets),
                *rounding_of(choice, listed, prepared),
                *lost_by(model.decoder),
                *beyond,
            ),
            kept=frozenset(kept),
            **estimates_of(prepared),
            measured=sum(math.prod(each.shape) for each in listed if each.name in choice.scaled),
            trials=trial_weights(listed) if name in options.budgets and not prepared.measured.errors else {},
            notes=notes_of(prepared, choice, listed, is_budget=name in options.budgets),
        )

    def weigh(
        self, decoder: Decoder, options: GgufOptions, target: str, native: str
    ) -> Iterable[Weight] | None:
        """Choose every tensor's type, and add up its blocks."""
        listed, name = _listed_once(decoder), target.removeprefix(PREFIX)
        shared = Shared({}, (), options.imatrix is not None, native=KEPT_AS.get(native, "F32"))
        choice = choose_types(decoder, options, name, shared, listed)
        written, _ = with_scales(listed, choice.scaled, {})
        return [
            Weight(
                tensor.pieces[0].ref if tensor.pieces else None,
                align(tensor_bytes(tensor.shape, choice.types.get(tensor.name, "F32"))),
                sum(piece.rows * piece.columns for piece in tensor.pieces),
                codecs_of(choice.types.get(tensor.name, "F32"), tensor, None)[0],
            )
            for tensor in written
        ]


@lru_cache(maxsize=1)
def _listed_once(decoder: Decoder) -> tuple[FileTensor, ...]:
    """List the tensors of the file; its quants are weighed one after the other."""
    return tuple(tensors.file_tensors(decoder))


FORMAT = GgufFormat()
