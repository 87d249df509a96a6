"""GPTQ by modelwright itself: GPTQModel's files, filled in the one pass by what was learned of the text."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from convert.extras import installed
from convert.formats.base import Planned
from convert.formats.gptq import estimate
from convert.formats.gptq.check import require_fit
from convert.formats.hf import format as hf
from convert.formats.hf.companions import canonical_config, companion_files, is_relabeled, to_json
from convert.formats.hf.shards import Entry, index, pack_header, split
from convert.formats.hf.tensors import Stored, stored_tensors
from convert.learning.asking import Asked
from convert.model.families import family
from convert.recipe.reader import refuse_at
from convert.writer.codecs.gptq_words import GptqWords
from convert.writer.codecs.plain import WIDTH_BYTES, Plain
from convert.writer.layout import Layout, Slot, by_turns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from convert.deviation import Deviation
    from convert.formats.gptq.options import GptqOptions
    from convert.model.decoder import Decoder
    from convert.model.source import Model, Weights
    from convert.progress import Progress
    from convert.quantizer import Matrix
    from convert.recipe import Recipe

MAX_SHARD_BYTES = 4_000_000_000
# Of a quantized matrix, in place of its weight.
WORDS, SCALES, ZEROS, GROUPS = "qweight", "scales", "qzeros", "g_idx"


@dataclass(frozen=True)
class Native:
    """The tensors, what is packed of them, and what was learned of that."""

    checkpoint: hf.StoredTensors
    matrices: Mapping[str, tuple[Stored, ...]]  # by the tensor's name: it, or what it is taken apart into
    asked: Asked

    @property
    def packed(self) -> tuple[str, ...]:
        """Name what is packed."""
        return tuple(each.name for parts in self.matrices.values() for each in parts)


def tools() -> dict[str, str]:
    """Name what can change the bytes."""
    return {"numpy": installed("numpy")}


def prepare(model: Model, options: GptqOptions, recipe: Recipe) -> Native:
    """Refuse what cannot be, before anything is fetched."""
    asked = Asked.of(model, recipe, "gptq")
    checkpoint = hf.list_tensors(model)
    matrices = estimate.matrices(checkpoint.stored)
    require_fit("gptq", options.bits, options.group_size, matrices, recipe)
    for option, is_wrong, what, hint in (
        ("sym", not options.sym, "sym: false", "remove sym, or "),
        ("desc_act", options.desc_act, "it", "remove it, since columns are taken in that order anyway, or "),
        ("device", options.device == "cuda", "it", "write calibration: {device: cuda}, or "),
    ):
        if is_wrong:
            why = f"the native engine cannot do with {what}"
            refuse_at(recipe, ("targets", "gptq", option), why, f"{hint}write engine: gptqmodel")
    return Native(checkpoint, _quantized(model.decoder, matrices), asked)


def _quantized(decoder: Decoder, matrices: Sequence[Matrix]) -> dict[str, tuple[Stored, ...]]:
    """Find the matrices, each role for itself: what is multiplied is (out, in), however it is stored.

    A joined one of gate and up is taken apart: GPTQModel reads it under the names of both, as vLLM can.
    """
    runs = family(decoder.family).naming.of(decoder).runs
    stored = {each.name: each for each in stored_tensors(decoder)}
    found = {}
    for matrix in matrices:
        name = f"{matrix.name}.weight"
        pieces, names = by_turns(stored[name].pieces, decoder, runs), matrix.results()
        each_of = zip(pieces, strict=True) if matrix.is_gated else [pieces]
        found[name] = tuple(
            Stored(f"{result}.weight", (sum(each.rows for each in some), some[0].columns), tuple(some))
            for result, some in zip(names, each_of, strict=True)
        )
    return found


def learn(
    prepared: Native,
    model: Model,
    options: GptqOptions,
    recipe: Recipe,
    *,
    weights: Weights,
    progress: Progress,
) -> Native:
    """Read the headers, and learn from the text."""
    checkpoint = hf.read_headers(prepared.checkpoint, model, weights)
    asked = prepared.asked.learn(model, recipe, weights, progress, options.damp)
    return replace(prepared, checkpoint=checkpoint, asked=asked)


def lay_out(model: Model, options: GptqOptions, target: str, prepared: Native) -> Planned:
    """Plan the files of weights, and write the small ones."""
    types = _types(prepared)
    config = canonical_config(model, hf.torch_name(prepared.checkpoint.stored, types))
    settings = _settings(options, prepared)
    layouts, shards = _layouts(prepared, types, _codec(options))
    asked = prepared.asked
    return Planned(
        target,
        layouts,
        files={
            **companion_files(model, {**config, "quantization_config": settings}),
            "quantize_config.json": to_json(settings),
            **shards,
        },
        encodings={
            **{name: found for name, found in types.items() if name not in prepared.matrices},
            **dict.fromkeys(prepared.packed, _codec(options).name),
        },
        deviations=(*asked.deviations, *_retyped(prepared, types)),
        keeps_config=not is_relabeled(model),
        **asked.estimates,
        notes={**asked.notes, "made_on": asked.lessons.record.get("device", "cpu")} if asked.lessons else {},
    )


def _retyped(prepared: Native, types: Mapping[str, str]) -> Iterable[Deviation]:
    found = hf.retyped(prepared.checkpoint, types)
    return (each for each in found if each.subject not in prepared.matrices)


def _codec(options: GptqOptions) -> GptqWords:
    return GptqWords(options.bits, max(0, options.group_size))


def _types(prepared: Native) -> dict[str, str]:
    """Keep the source's types, but for the biases of quantized matrices, which are stored as their scales."""
    types = hf.stored_types(prepared.checkpoint, "source")
    biases = {f"{name.removesuffix('.weight')}.bias" for name in prepared.matrices}
    return {name: "F16" if name in biases else found for name, found in types.items()}


def _layouts(
    prepared: Native, types: Mapping[str, str], codec: GptqWords
) -> tuple[tuple[Layout, ...], dict[str, bytes]]:
    """Lay the checkpoint out; the second value is the index, where there is more than one file."""
    entries: list[Entry] = []
    slots: dict[str, Slot] = {}
    fixed: dict[str, bytes] = {}
    for each in prepared.checkpoint.stored:
        if each.name not in prepared.matrices:
            size_bytes = math.prod(each.shape) * WIDTH_BYTES[types[each.name]]
            entries.append(Entry(each.name, types[each.name], each.shape, size_bytes))
            plain = Plain(types[each.name])  # type: ignore[arg-type]  # one of its three
            slots[each.name] = Slot(each.name, each.pieces, plain, (), each.is_turned)
            continue
        for matrix in prepared.matrices[each.name]:
            stem = matrix.name.removesuffix("weight")
            pieces = tuple(
                replace(piece, codec=prepared.asked.codec(piece.ref, codec)) for piece in matrix.pieces
            )
            slot = Slot(matrix.name, pieces, codec, (), is_turned=True)
            slots[f"{stem}{WORDS}"] = slot
            fixed[f"{stem}{ZEROS}"] = codec.zeros(slot.rows, slot.columns)
            fixed[f"{stem}{GROUPS}"] = codec.groups(slot.columns)
            entries += _entries(stem, slot, codec)
    shards = split(entries, MAX_SHARD_BYTES)
    return tuple(_layout(path, found, slots, fixed) for path, found in shards.items()), index(shards)


def _entries(stem: str, slot: Slot, codec: GptqWords) -> Iterable[Entry]:
    groups, per_word = codec.grid.groups(slot.columns), 32 // codec.bits
    words_bytes, scales_bytes = slot.sizes_bytes
    zeros_shape = (groups, slot.rows // per_word)
    yield Entry(f"{stem}{WORDS}", "I32", (slot.columns // per_word, slot.rows), words_bytes)
    yield Entry(f"{stem}{SCALES}", "F16", (groups, slot.rows), scales_bytes)
    yield Entry(f"{stem}{ZEROS}", "I32", zeros_shape, 4 * math.prod(zeros_shape))
    yield Entry(f"{stem}{GROUPS}", "I32", (slot.columns,), 4 * slot.columns)


def _layout(
    path: str, entries: Sequence[Entry], slots: Mapping[str, Slot], fixed: Mapping[str, bytes]
) -> Layout:
    header, offsets = pack_header(entries)
    placed = []
    for name, slot in slots.items():
        if name in offsets:
            stem = name.removesuffix(WORDS)
            places = (name,) if stem == name else (name, f"{stem}{SCALES}")
            placed.append(replace(slot, offsets_bytes=tuple(offsets[each] for each in places)))
    known = ((offsets[name], data) for name, data in fixed.items() if name in offsets)
    size_bytes = len(header) + sum(entry.size_bytes for entry in entries)
    return Layout(path, size_bytes, ((0, header), *known), tuple(placed))


def _settings(options: GptqOptions, prepared: Native) -> dict[str, Any]:
    """Write the settings as GPTQModel does, which Transformers and vLLM read."""
    settings: dict[str, Any] = {
        "bits": options.bits,
        "checkpoint_format": "gptq",
        "desc_act": False,
        "format": "gptq",
        "group_size": options.group_size,
        "lm_head": False,
        "meta": {
            "damp_percent": options.damp,
            "quantizer": ["modelwright"],
            "static_groups": True,
            "true_sequential": False,
        },
        "method": "gptq",
        "pack_dtype": "int32",
        "quant_method": "gptq",
        "sym": True,
    }
    if estimate.left_out(prepared.checkpoint.stored):
        settings["modules_in_block_to_quantize"] = [_endings(prepared)]
    return settings


def _endings(prepared: Native) -> list[str]:
    """Say which linear layers are packed, where some are not, by how their names end within a layer."""
    names = (name.removesuffix(".weight") for name in prepared.packed)
    return list(dict.fromkeys(re.sub(r"^.*\.\d+\.(?!.*\.\d+\.)", "", name) for name in names))
