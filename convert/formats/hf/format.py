"""The canonical checkpoint: what Transformers' own classes load, and what other tools are fed."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from convert.deviation import Deviation
from convert.formats.base import Format, Planned, Weight
from convert.formats.hf.companions import canonical_config, companion_files, is_relabeled
from convert.formats.hf.options import HfOptions
from convert.formats.hf.shards import shard_layouts
from convert.formats.hf.tensors import KEPT_AS, Float, Stored, copied, source_types, stored_tensors
from convert.model.config import read_config
from convert.model.decoder import Decoder
from convert.model.families import family, text_config
from convert.model.family import HEADS
from convert.model.feature import Feature
from convert.model.source import Model, Weights
from convert.progress import Progress
from convert.recipe import Recipe
from convert.writer.codecs.plain import WIDTH_BYTES, Plain

OWN_NAMES: dict[str, Float] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
TORCH_NAMES: dict[str, str] = {own: torch for torch, own in OWN_NAMES.items()}
# Some configs say it by a flag.
FLAGS: dict[str, Float] = {"bf16": "BF16", "fp16": "F16"}
# Below so many bytes a weight they have 16 bits or fewer, even where a tied head is stored once more.
NARROW_BYTES = 3
ASKED: dict[str, Float] = {"bf16": "BF16", "fp16": "F16", "fp32": "F32"}


@dataclass(frozen=True)
class StoredTensors:
    """The tensors, and what each is stored as in the source, once its headers were read."""

    stored: tuple[Stored, ...]
    source_types: Mapping[str, str]


class HfFormat(Format[HfOptions, StoredTensors]):
    """The checkpoint itself, under the names of Transformers' own class."""

    name = "hf"
    REVISION = 2
    RENDERS = frozenset(Feature)  # Transformers' own class computes what its config says

    def prepare(self, model: Model, options: HfOptions, recipe: Recipe) -> StoredTensors:
        """List the tensors."""
        return list_tensors(model, has_next_layers=_keeps_next_layers(model))

    def learn(
        self,
        prepared: StoredTensors,
        model: Model,
        options: HfOptions,
        recipe: Recipe,
        *,
        weights: Weights,
        progress: Progress,
    ) -> StoredTensors:
        """Read in the headers what each tensor is stored as."""
        return read_headers(prepared, model, weights)

    def lay_out(self, model: Model, options: HfOptions, target: str, prepared: StoredTensors) -> Planned:
        """Plan the files of weights, and write the small ones."""
        types = stored_types(prepared, options.dtype)
        layouts, index = shard_layouts(prepared.stored, types, options.max_shard_bytes)
        config = canonical_config(model, torch_name(prepared.stored, types))
        return Planned(
            target,
            layouts,
            files={**companion_files(model, config), **index},
            encodings=types,
            deviations=retyped(prepared, types) if options.dtype == "source" else (),
            keeps_config=not is_relabeled(model),
            kept=frozenset({HEADS}) if _keeps_next_layers(model) else frozenset(),
        )

    def weigh(
        self, decoder: Decoder, options: HfOptions, target: str, native: str
    ) -> Iterable[Weight] | None:
        """Count every tensor in the type that it is stored in."""
        codec = Plain(ASKED.get(options.dtype) or KEPT_AS.get(native, "F32"))
        counts = ((each.pieces[0].ref, math.prod(each.shape)) for each in stored_tensors(decoder))
        return [Weight(ref, WIDTH_BYTES[codec.name] * count, count, codec) for ref, count in counts]


def _keeps_next_layers(model: Model) -> bool:
    """Check whether layers for further tokens are there, and have names of their own."""
    return model.has_next_layers and family(model.decoder.family).naming.of(model.decoder).next is not None


def list_tensors(model: Model, *, has_next_layers: bool = False) -> StoredTensors:
    """List the tensors, each of the type that config.json promises until their headers are here."""
    stored = stored_tensors(model.decoder, has_next_layers=has_next_layers)
    return StoredTensors(stored, dict.fromkeys((each.name for each in stored), promised_type(model)))


def read_headers(promised: StoredTensors, model: Model, weights: Weights) -> StoredTensors:
    """Say what each tensor is stored as, and take those whole that are named alike."""
    stored = copied(promised.stored, model.decoder, weights)
    return replace(promised, stored=stored, source_types=source_types(stored, weights))


def promised_type(model: Model) -> Float:
    """Say what the weights will prove to be: what config.json says, or else what they weigh."""
    source: Mapping[str, Any] = text_config(read_config(model.folder)).values
    flagged = [own for flag, own in FLAGS.items() if source.get(flag) is True]
    said = str(source.get("torch_dtype") or source.get("dtype")).removeprefix("torch.")
    if flagged:
        return flagged[0]
    if said in OWN_NAMES:
        return OWN_NAMES[said]
    is_narrow = 0 < model.weight_bytes < NARROW_BYTES * model.decoder.parameter_count
    return "BF16" if is_narrow else "F32"


def stored_types(prepared: StoredTensors, dtype: str) -> dict[str, str]:
    """Say what each tensor will be stored as."""
    return {
        name: ASKED.get(dtype) or KEPT_AS.get(found, "F32") for name, found in prepared.source_types.items()
    }


def torch_name(stored: tuple[Stored, ...], types: Mapping[str, str]) -> str:
    """Name the type that most of the weights have, as torch does."""
    counts: Counter[str] = Counter()
    for each in stored:
        counts[types[each.name]] += math.prod(each.shape)
    return TORCH_NAMES[counts.most_common(1)[0][0]]


def retyped(prepared: StoredTensors, types: Mapping[str, str]) -> tuple[Deviation, ...]:
    """Name each tensor that is not stored as in the source."""
    return tuple(
        Deviation(name, found, types[name], "no tensor of that type is written")
        for name, found in prepared.source_types.items()
        if types[name] != found
    )


FORMAT = HfFormat()
