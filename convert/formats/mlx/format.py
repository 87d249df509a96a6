"""MLX: what `mlx_lm.convert` writes, tensor by tensor, without MLX."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from convert.deviation import AS_SOURCE, Deviation
from convert.extras import installed
from convert.formats.base import Format, Planned, Weight, learnable
from convert.formats.hf.companions import companion_files, is_relabeled
from convert.formats.hf.format import ASKED, OWN_NAMES, StoredTensors, promised_type, torch_name
from convert.formats.hf.tensors import KEPT_AS, Float, source_types
from convert.formats.mlx import budgeted
from convert.formats.mlx.config import written_config
from convert.formats.mlx.options import PREFIX, MlxOptions
from convert.formats.mlx.tensors import (
    NOTHING,
    Packed,
    Tensor,
    float_types,
    layouts,
    model_of,
    packed,
    stored_tensors,
    tensors,
)
from convert.learning.asking import Asked
from convert.model.decoder import Decoder
from convert.model.families import family
from convert.model.feature import Feature
from convert.model.source import Model, Weights
from convert.progress import Progress
from convert.recipe import Recipe
from convert.writer.codecs.plain import Plain


@dataclass(frozen=True)
class Shared:
    """The tensors, and what is learned to round them by."""

    checkpoint: StoredTensors
    asked: Asked | None = None
    # What each matrix loses by each number of bits, where a budget asks for it.
    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class MlxFormat(Format[MlxOptions, Shared]):
    """Checkpoints for mlx-lm: matrices in groups with scales, the rest as floats."""

    name = "mlx"
    REVISION = 2
    RENDERS: frozenset[Feature] = frozenset()  # each model file has its own

    def renders(self, decoder: Decoder, options: MlxOptions | None = None) -> frozenset[Feature] | None:
        """Express what mlx-lm's file of the family computes."""
        found = family(decoder.family).mlx
        return learnable(found.renders | found.lost.keys(), options) if found else None

    def limits(self, decoder: Decoder) -> tuple[str, ...]:
        """Say what that file has built in."""
        mlx = model_of(decoder)
        return tuple(mlx.limits(decoder)) if mlx.limits else ()

    def tools(self, options: MlxOptions, target: str) -> dict[str, str]:
        return {"numpy": installed("numpy")} if _learns(options, target) else {}

    def prepare(self, model: Model, options: MlxOptions, recipe: Recipe) -> Shared:
        """List the tensors, each of the type that config.json promises until their headers are here."""
        stored = stored_tensors(model.decoder)
        types = dict.fromkeys((each.name for each in stored), promised_type(model))
        asked = Asked.of(model, recipe, f"{self.name}.rounding") if options.learns_by else None
        return Shared(StoredTensors(stored, types), asked)

    def learn(
        self,
        prepared: Shared,
        model: Model,
        options: MlxOptions,
        recipe: Recipe,
        *,
        weights: Weights,
        progress: Progress,
    ) -> Shared:
        """Read in the headers what each tensor is stored as, and learn to round where that is asked for."""
        found = prepared.checkpoint
        found = replace(found, source_types=source_types(found.stored, weights))
        asked = prepared.asked and prepared.asked.learn(model, recipe, weights, progress)
        prepared = Shared(found, asked)
        if not options.budgets:
            return prepared
        types = _types(model.decoder, prepared, options.dtype)
        wide = tensors(found.stored, model.decoder, budgeted.widest(options), types)
        return replace(prepared, errors=budgeted.measure_errors(wide, options, weights, progress))

    def lay_out(self, model: Model, options: MlxOptions, target: str, prepared: Shared) -> Planned:
        """Plan the files of weights, and write the small ones."""
        decoder, stored, sources = model.decoder, prepared.checkpoint.stored, prepared.checkpoint.source_types
        is_asked = _asked(options, target) is not None
        types = _types(decoder, prepared, _dtype(options, target))
        asked = prepared.asked if _learns(options, target) else None
        how, own = _packed(options, target), NOTHING
        budget = options.budgets.get(target.removeprefix(PREFIX))
        if budget:
            errors, limit = prepared.errors, options.max_shard_bytes
            mix = budgeted.choose_files(
                decoder, stored, types, options, budget=budget, errors=errors, max_bytes=limit
            )
            how, own = mix.how, mix.own
        found = tensors(stored, decoder, how, types, asked, own=own)
        files, more = layouts(found, options.max_shard_bytes)
        config = written_config(model, torch_name(stored, types), how, found)
        return Planned(
            target,
            files,
            files={**companion_files(model, config), **more},
            encodings={each.name: each.slot.encoding for each in found},
            **(asked.estimates if asked else {}),
            trials=budgeted.trial_weights(found, options) if budget and not prepared.errors else {},
            notes={**(budgeted.notes(found) if budget else {}), **(asked.notes if asked else {})},
            deviations=(
                *((budgeted.DESCRIBED,) if budget else ()),
                *(asked.deviations if asked else ()),
                *_lost(decoder),
                *_unpacked(found, how),
                *(() if is_asked else _retyped(sources, found)),
            ),
            keeps_config=not is_relabeled(model),
        )

    def weigh(
        self, decoder: Decoder, options: MlxOptions, target: str, native: str
    ) -> Iterable[Weight] | None:
        """Count every tensor with its scales."""
        stored = stored_tensors(decoder)
        dtype = _asked(options, target) or KEPT_AS.get(native, "F32")
        types: dict[str, Float] = dict.fromkeys((each.name for each in stored), dtype)
        how, own = _packed(options, target), NOTHING
        if budget := options.budgets.get(target.removeprefix(PREFIX)):
            mix = budgeted.choose(decoder, stored, types, options, budget=budget, errors={})
            how, own = mix.how, mix.own
        found = tensors(stored, decoder, how, types, own=own)
        return [Weight.of(each.slot) for each in found]


def _learns(options: MlxOptions, target: str) -> bool:
    """Tell whether an artifact is rounded by what was learned."""
    quant = options.quant_of(target)
    return options.learns_by is not None and (quant is None or quant.is_searchable)


def _packed(options: MlxOptions, target: str) -> Packed | None:
    quant = options.quant_of(target)
    if quant is None:
        return None
    return packed(quant, options.group_size, is_searched=options.is_searched(quant))


def _dtype(options: MlxOptions, target: str) -> str:
    quant = options.quant_of(target)
    return quant.value if quant and quant.is_plain else options.dtype


def _asked(options: MlxOptions, target: str) -> Float | None:
    """Return the type that was asked for; None for the source's."""
    return ASKED.get(_dtype(options, target))


def _types(decoder: Decoder, prepared: Shared, dtype: str) -> dict[str, Float]:
    """Say what each tensor, or its scales, are stored in."""
    stored, sources = prepared.checkpoint.stored, prepared.checkpoint.source_types
    kept = {name: KEPT_AS.get(each, "F32") for name, each in sources.items()}
    return float_types(sources, stored, decoder, ASKED.get(dtype) or OWN_NAMES[torch_name(stored, kept)])


def _lost(decoder: Decoder) -> Iterator[Deviation]:
    """Record what mlx-lm's file of the family leaves out."""
    mlx, windows = model_of(decoder), {Feature.WINDOW, Feature.MIXED_WINDOWS}
    for feature, why in mlx.lost.items():
        if feature in decoder.features - windows:
            yield Deviation(str(feature), AS_SOURCE, "mlx-lm's reading", why)
    why = mlx.lost.get(Feature.WINDOW, "")
    window = min((each.window for each in decoder.attentions if each.window is not None), default=None)
    is_kept = Feature.MIXED_WINDOWS in decoder.features & mlx.renders
    if why and window is not None and window < decoder.context_length and not is_kept:
        yield Deviation("attention", f"over the last {window} tokens", "over all tokens", why)


def _unpacked(found: Iterable[Tensor], how: Packed | None) -> tuple[Deviation, ...]:
    """Name the matrices that stay as they are because their rows cannot be cut into groups."""
    if how is None:
        return ()
    why = f"its rows are no multiple of {how.group_size}"
    return tuple(
        Deviation(each.name, how.codec("F32").name, each.slot.codec.name, why)
        for each in found
        if each.is_left
    )


def _retyped(source: Mapping[str, str], found: Iterable[Tensor]) -> tuple[Deviation, ...]:
    """Count the plain tensors that have another type than in the source."""
    changed = Counter(
        (source[each.name], each.slot.codec.name)
        for each in found
        if isinstance(each.slot.codec, Plain) and each.slot.codec.name != source[each.name]
    )
    return tuple(
        Deviation(f"{count} tensor{'' if count == 1 else 's'}", *types, "mlx-lm computes in one type")
        for types, count in changed.items()
    )


FORMAT = MlxFormat()
