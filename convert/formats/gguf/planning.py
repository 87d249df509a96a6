"""The types of an artifact's tensors, and the files that these become."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convert.errors import Failure
from convert.formats.budget import with_headers
from convert.formats.gguf import metadata, tensors
from convert.formats.gguf.budgeted import budget_bytes, choose_by_budget, file_type
from convert.formats.gguf.choosing import Choice, Wishes, choose
from convert.formats.gguf.files import importance_fields, lay_out_files
from convert.formats.gguf.mixture import MIXTURES, needs_importance
from convert.formats.gguf.scaling import with_scales
from convert.writer.codecs.ggml import WEIGHED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.formats.gguf.importance import Importance
    from convert.formats.gguf.options import GgufOptions
    from convert.formats.gguf.shared import Shared
    from convert.formats.gguf.tensors import FileTensor
    from convert.model.decoder import Decoder
    from convert.model.source import Model
    from convert.writer.layout import Layout


def file_tensors_of(model: Model) -> tuple[Model, list[FileTensor]]:
    """List the tensors of the file, with those of layers that guess further tokens where it has a place."""
    if model.has_next_layers and tensors.graph_of(model.decoder).has_next_layers:
        model = replace(model, decoder=model.decoder.with_next_layers())
    return model, list(tensors.file_tensors(model.decoder))


def plan_files(
    model: Model, options: GgufOptions, name: str, prepared: Shared, listed: Sequence[FileTensor]
) -> tuple[Choice, list[Layout]]:
    """Choose the types and plan the files; a budget of bytes has to hold for all that is in them."""
    budget = options.budgets.get(name)
    counts = tensors.parameter_counts(listed)

    def make(headers_bytes: int) -> tuple[tuple[Choice, list[Layout]], int]:
        choice = choose_types(model.decoder, options, name, prepared, listed, headers_bytes=headers_bytes)
        if prepared.importance is not None:
            _require_importance(name, choice.types, prepared.importance)
        number = file_type(listed, choice.types) if budget else MIXTURES[name].file_type
        fields = {**metadata.fields(model, number, counts), **prepared.vocabulary}
        if prepared.importance is not None:
            fields |= importance_fields(prepared.importance)
        written, scales = with_scales(listed, choice.scaled, prepared.scales)
        choice.types |= {each.name: "F32" for each in written if each.name not in choice.types}
        layouts = lay_out_files(
            f"{model.title}-{name}",
            fields,
            written,
            choice.types,
            scales=scales,
            importance=prepared.importance,
            split_max_bytes=options.split_max_bytes,
            asked=prepared.asked,
        )
        return (choice, layouts), sum(layout.size_bytes for layout in layouts)

    return with_headers(budget, make)


def choose_types(
    decoder: Decoder,
    options: GgufOptions,
    name: str,
    prepared: Shared,
    listed: Sequence[FileTensor],
    *,
    headers_bytes: int = 0,
) -> Choice:
    """Choose every tensor's type, by the mixture or by a budget for all but the headers."""
    wishes = _wishes(options, prepared.native)
    if budget := options.budgets.get(name):
        left_bytes = budget_bytes(budget, listed) - headers_bytes
        return choose_by_budget(decoder, listed, wishes, prepared.measured, left_bytes)
    return choose(name, decoder, listed, wishes, has_imatrix=prepared.has_imatrix)


def _wishes(options: GgufOptions, native: str) -> Wishes:
    """Read what the recipe says of single tensors."""
    return Wishes(
        tuple(options.tensor_types.items()),
        options.output_type,
        options.embedding_type,
        native if options.leave_output_tensor else None,
        options.pure,
    )


def _require_importance(quant: str, types: Mapping[str, str], importance: Importance) -> None:
    """Refuse a matrix that says nothing of a tensor which needs it, as llama-quantize does."""
    lacking = (
        name
        for name, type_ in types.items()
        if name not in importance.values and (needs_importance(name, type_, quant) or type_ in WEIGHED)
    )
    if (name := next(lacking, None)) is not None:
        raise Failure(
            f"{importance.file_name}: it says nothing of {name}, and {types[name]} needs it",
            f"take a matrix that does, or give this tensor another type: tensor_types: {{{name}: Q4_K}}",
        )
