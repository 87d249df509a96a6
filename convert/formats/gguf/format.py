"""GGUF, the format of llama.cpp: one artifact a quant, all from one read of the source."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import gguf as gguf_py

from convert.deviation import AS_SOURCE, Deviation
from convert.digest import sha256_of
from convert.errors import Failure
from convert.extras import installed
from convert.formats.base import Format, Planned, Weight
from convert.formats.gguf import metadata, projector, tensors
from convert.formats.gguf.choosing import Choice, Wishes, choose
from convert.formats.gguf.header import Entry, Field, align, pack, tensor_bytes
from convert.formats.gguf.mixture import MIXTURES, needs_importance
from convert.formats.gguf.options import PREFIX, GgufOptions
from convert.formats.gguf.vocabulary import vocabulary_deviations, vocabulary_fields
from convert.formats.hf.format import promised_type
from convert.formats.hf.tensors import KEPT_AS
from convert.learning.asking import forward_operations
from convert.model.family import HEADS
from convert.model.feature import Feature
from convert.model.tensor import Ref, Role
from convert.writer.codecs.ggml import BLOCK_TYPES, WEIGHED, Ggml
from convert.writer.codecs.plain import Plain
from convert.writer.layout import Layout, Piece, Slot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from convert.checkpoint import TensorInfo
    from convert.formats.gguf.importance import Importance
    from convert.formats.gguf.tensors import FileTensor
    from convert.model.decoder import Decoder
    from convert.model.source import Model, Weights
    from convert.progress import Progress
    from convert.recipe import Recipe
    from convert.writer.codecs import Codec


# The types that are written without libggml.
PLAIN = {"F32", "F16", "BF16"}
MAX_SHOWN = 6  # experts in a message


@dataclass(frozen=True)
class Shared:
    """What all quants share: the vocabulary's fields, and the importance of the columns."""

    vocabulary: Mapping[str, Field]
    deviations: Sequence[str]
    has_imatrix: bool
    importance: Importance | None = field(default=None, repr=False)
    part: projector.Part | None = field(default=None, repr=False)  # that reads pictures
    source: Mapping[str, TensorInfo] | None = field(default=None, repr=False)  # once its headers were read
    native: str = ""  # the float that the source's head has, where it is kept
    learning: float = 0.0  # operations that an importance matrix costs


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
        found = self.RENDERS & (graph.renders | graph.lost.keys())
        if not (options and options.learns_by):
            return found
        from convert.model.forward import RENDERS as LEARNED  # noqa: PLC0415 - for the few that learn

        return found & LEARNED

    def limits(self, decoder: Decoder) -> tuple[str, ...]:
        graph = tensors.find_graph(decoder)
        limits = graph.limits if graph else None
        return tuple(limits(decoder)) if limits else ()

    def tools(self, options: GgufOptions, target: str) -> dict[str, str]:
        names = ["gguf"]
        if target.removeprefix(PREFIX) not in PLAIN:
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
        vocabulary = {
            key: Field(value, value_type, item_type).packed()
            for key, value_type, value, item_type in vocabulary_fields(model.tokenizer)
        }
        return Shared(
            vocabulary,
            vocabulary_deviations(model.tokenizer),
            options.imatrix is not None,
            part=projector.find_part(model) if options.mmproj else None,
            learning=forward_operations(model.decoder, recipe) if options.learns_by else 0.0,
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
        if options.imatrix is None:
            return prepared
        from convert.formats.gguf.importance import find_importance  # noqa: PLC0415 - brings a forward pass

        return replace(prepared, importance=find_importance(model, options, recipe, weights, progress))

    def lay_out(self, model: Model, options: GgufOptions, target: str, prepared: Shared) -> Planned:
        """Choose every tensor's type and place, and pack the headers."""
        quant = target.removeprefix(PREFIX)
        has_next_layers = model.has_next_layers and tensors.graph_of(model.decoder).has_next_layers
        if has_next_layers:
            model = replace(model, decoder=model.decoder.with_next_layers())
        listed = list(tensors.file_tensors(model.decoder))
        prepared = _with_all_missing(prepared, model.decoder, listed)
        wishes = _wishes(options, prepared.native)
        choice = choose(quant, model.decoder, listed, wishes, has_imatrix=prepared.has_imatrix)
        types = choice.types
        if prepared.importance is not None:
            _require_importance(quant, types, prepared.importance)
        counts = tensors.parameter_counts(listed)
        fields = metadata.fields(model, MIXTURES[quant].file_type, counts)
        fields |= prepared.vocabulary
        if prepared.importance is not None:
            fields |= _importance_fields(prepared.importance)
        shards = _shards(listed, types, options.split_max_bytes)
        layouts = []
        for number, shard in enumerate(shards, 1):
            shard_fields: Mapping[str, Field] = fields
            name = f"{model.title}-{quant}.gguf"
            if len(shards) > 1:
                name = f"{model.title}-{quant}-{number:05}-of-{len(shards):05}.gguf"
                shard_fields = _split_fields(number, len(shards), len(listed), fields)
            layouts.append(_layout(name, shard_fields, shard, types, prepared.importance))
        beyond: tuple[Deviation, ...] = ()
        kept = {HEADS} if has_next_layers else set()
        encodings = {tensor.name: types[tensor.name] for tensor in listed}
        if prepared.part:
            layouts.append(projector.lay_out(model, prepared.part, prepared.source))
            tower = prepared.part.tensors(prepared.source)
            encodings |= {tensor.name: tensor.type for tensor in tower}
            beyond = tuple(projector.unused(prepared.part, prepared.source))
            kept.add(prepared.part.projector.part)
        return Planned(
            target,
            tuple(layouts),
            files=_learned_files(prepared.importance),
            encodings=encodings,
            deviations=(*_deviations(choice, listed, prepared), *_lost(model.decoder), *beyond),
            kept=frozenset(kept),
            learning=prepared.learning if prepared.importance is None else 0.0,
            notes={"calibration": dict(learned)} if (learned := _learned(prepared)) else {},
        )

    def weigh(
        self, decoder: Decoder, options: GgufOptions, target: str, native: str
    ) -> Iterable[Weight] | None:
        """Choose every tensor's type, and add up its blocks."""
        listed = _listed_once(decoder)
        has_imatrix = options.imatrix is not None
        quant, wishes = target.removeprefix(PREFIX), _wishes(options, KEPT_AS.get(native, "F32"))
        types = choose(quant, decoder, listed, wishes, has_imatrix=has_imatrix).types
        return [
            Weight(
                tensor.pieces[0].ref if tensor.pieces else None,
                align(tensor_bytes(tensor.shape, types[tensor.name])),
            )
            for tensor in listed
        ]


@lru_cache(maxsize=1)
def _listed_once(decoder: Decoder) -> tuple[FileTensor, ...]:
    """List the tensors of the file; its quants are weighed one after the other."""
    return tuple(tensors.file_tensors(decoder))


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


def _learned(prepared: Shared) -> Mapping[str, str | int]:
    """Say which windows the importance was learned from, if it was learned here."""
    return prepared.importance.learned if prepared.importance else {}


def _shards(
    listed: Sequence[FileTensor], types: Mapping[str, str], max_bytes: int | None
) -> list[list[FileTensor]]:
    """Fill files up to the limit, as llama-gguf-split does; a larger tensor has one to itself."""
    shards: list[list[FileTensor]] = [[]]
    filled_bytes = 0
    for tensor in listed:
        size_bytes = align(tensor_bytes(tensor.shape, types[tensor.name]))
        if max_bytes is not None and shards[-1] and filled_bytes + size_bytes > max_bytes:
            shards.append([])
            filled_bytes = 0
        shards[-1].append(tensor)
        filled_bytes += size_bytes
    return shards


def _layout(
    path: str,
    fields: Mapping[str, Field],
    shard: Sequence[FileTensor],
    types: Mapping[str, str],
    importance: Importance | None,
) -> Layout:
    sizes = [align(tensor_bytes(tensor.shape, types[tensor.name])) for tensor in shard]
    offsets = list(itertools.accumulate(sizes, initial=0))
    entries = [
        Entry(tensor.name, tensor.shape, types[tensor.name], offset)
        for tensor, offset in zip(shard, offsets, strict=False)
    ]
    header = pack(fields, entries)
    fixed, slots = [(0, header)], []
    for tensor, offset in zip(shard, offsets, strict=False):
        if tensor.data:
            fixed.append((len(header) + offset, tensor.data))
        else:
            codec, pieces = _codecs(types[tensor.name], tensor, importance)
            slots.append(Slot(tensor.name, pieces, codec, (len(header) + offset,)))
    return Layout(path, len(header) + offsets[-1], tuple(fixed), tuple(slots))


def _codecs(
    type_name: str, tensor: FileTensor, importance: Importance | None
) -> tuple[Codec, tuple[Piece, ...]]:
    """Choose how a tensor is encoded; each expert or head may have its own importance of columns."""
    if type_name in PLAIN:
        return Plain(type_name), tensor.pieces  # type: ignore[arg-type]
    values = importance.values.get(tensor.name) if importance else None
    if values is None:
        return Ggml(type_name), tensor.pieces
    columns = tensor.shape[-1]
    if values.size == columns:
        return Ggml(type_name, values.tobytes()), tensor.pieces
    codecs = [Ggml(type_name, each.tobytes()) for each in values.reshape(-1, columns)]
    experts = (piece.ref.expert for piece in tensor.pieces)
    # Heads that are stacked are pieces of one tensor, in their order.
    places = (number if expert is None else expert for number, expert in enumerate(experts))
    pieces = (replace(piece, codec=codecs[place]) for piece, place in zip(tensor.pieces, places, strict=True))
    return codecs[0], tuple(pieces)


def _split_fields(
    number: int, count: int, tensor_count: int, fields: Mapping[str, Field]
) -> dict[str, Field]:
    """Put the model's fields in the first file alone, and the split's in each."""
    value_types = gguf_py.GGUFValueType
    split = {
        gguf_py.Keys.Split.LLM_KV_SPLIT_NO: Field(number - 1, value_types.UINT16),
        gguf_py.Keys.Split.LLM_KV_SPLIT_COUNT: Field(count, value_types.UINT16),
        gguf_py.Keys.Split.LLM_KV_SPLIT_TENSORS_COUNT: Field(tensor_count, value_types.INT32),
    }
    return {**(fields if number == 1 else {}), **split}


def _importance_fields(importance: Importance) -> dict[str, Field]:
    """Say what llama-quantize says of the matrix that it used."""
    string, number = gguf_py.GGUFValueType.STRING, gguf_py.GGUFValueType.UINT32
    fields = {
        "quantize.imatrix.file": Field(importance.file_name, string),
        "quantize.imatrix.entries_count": Field(len(importance.values), number),
        "quantize.imatrix.chunks_count": Field(importance.chunk_count, number),
    }
    if importance.datasets:
        fields["quantize.imatrix.dataset"] = Field(importance.datasets[0], string)
    return fields


def _learned_files(importance: Importance | None) -> dict[str, bytes]:
    """Ship a matrix that was learned here, so that others can quantize by it."""
    if importance is None or not importance.learned:
        return {}
    from convert.formats.gguf.importance import pack_importance  # noqa: PLC0415 - brings a forward pass

    return {importance.file_name: pack_importance(importance)}


def _with_all_missing(prepared: Shared, decoder: Decoder, listed: Iterable[FileTensor]) -> Shared:
    """Add layers that guess further tokens to what an importance matrix lacks: no run goes through them."""
    if (matrix := prepared.importance) is None:
        return prepared
    further = {number for number, layer in enumerate(decoder.layers) if layer.next_norm}
    lacking = (each.name for each in listed if each.pieces and each.pieces[0].ref.layer in further)
    missing = dict.fromkeys((*matrix.missing, *(name for name in lacking if name not in matrix.values)))
    return replace(prepared, importance=replace(matrix, missing=tuple(missing)))


def _deviations(choice: Choice, listed: Sequence[FileTensor], prepared: Shared) -> tuple[Deviation, ...]:
    """Name every tensor that is coarser or finer than the quant's name says."""
    types = choice.types
    columns = {tensor.name: tensor.shape[-1] for tensor in listed}
    fallen = [
        Deviation(name, wanted, types[name], f"{columns[name]} columns are no whole number of blocks")
        for name, wanted in choice.wanted.items()
    ]
    missing = [
        Deviation(name, "with the importance of its columns", "without", "the matrix lacks this tensor")
        for name in (prepared.importance.missing if prepared.importance else ())
        if types.get(name) in BLOCK_TYPES
    ]
    unseen = [
        Deviation(
            name,
            "with the importance of its columns",
            f"without, in {len(experts)} experts",
            f"no text reached experts {_listed(experts)}",
        )
        for name, experts in (prepared.importance.unseen if prepared.importance else {}).items()
        if types.get(name) in BLOCK_TYPES
    ]
    said = [
        Deviation("tokenizer", AS_SOURCE, "llama.cpp's reading", text.removeprefix("tokenizer: "))
        for text in prepared.deviations
    ]
    learned = (
        Deviation(
            "imatrix",
            "the same bits on every CPU",
            "the same bits on CPUs of one kind",
            "it was learned here, and matrix products round as a CPU's own kernels do",
        ),
    )
    return (*fallen, *missing, *unseen, *said, *(learned if _learned(prepared) else ()))


def _listed(numbers: Sequence[int]) -> str:
    shown = ", ".join(map(str, numbers[:MAX_SHOWN]))
    return shown if len(numbers) <= MAX_SHOWN else f"{shown} and {len(numbers) - MAX_SHOWN} more"


def _lost(decoder: Decoder) -> tuple[Deviation, ...]:
    """Record what llama.cpp's graph leaves out."""
    lost = tensors.graph_of(decoder).lost
    found = [
        Deviation(str(feature), AS_SOURCE, "llama.cpp's reading", why)
        for feature, why in lost.items()
        if feature is not Feature.WINDOW and feature in decoder.features
    ]
    why = lost.get(Feature.WINDOW)
    window = min((each.window for each in decoder.attentions if each.window is not None), default=None)
    if why is not None and window is not None and window < decoder.context_length:
        found.append(Deviation("attention", f"over the last {window} tokens", "over all tokens", why))
    return tuple(found)


FORMAT = GgufFormat()
