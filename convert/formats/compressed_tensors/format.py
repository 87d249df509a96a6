"""Checkpoints in compressed-tensors' layout: Transformers' own names, packed matrices and their scales."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from convert.deviation import Deviation
from convert.extras import installed
from convert.formats.base import Format, Planned, Weight, learnable
from convert.formats.compressed_tensors import budgeted, matrices
from convert.formats.compressed_tensors.options import (
    GROUPED,
    NAME,
    PREFIX,
    SEARCHED,
    CompressedTensorsOptions,
    Scheme,
)
from convert.formats.compressed_tensors.preset import Preset, mixable, preset_of, quantization_config
from convert.formats.compressed_tensors.shards import shard_layouts, weigh
from convert.formats.hf import format as hf
from convert.formats.hf.companions import canonical_config, companion_files, is_relabeled
from convert.formats.hf.tensors import KEPT_AS, stored_tensors
from convert.learning.asking import Asked
from convert.recipe.reader import refuse_at
from convert.writer.codecs.compressed import shared_scale
from convert.writer.codecs.minifloat import rounded
from convert.writer.measure import largest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from convert.formats.compressed_tensors.matrices import Choice
    from convert.model.decoder import Decoder
    from convert.model.feature import Feature
    from convert.model.source import Model, Weights
    from convert.progress import Progress
    from convert.recipe import Recipe
    from convert.writer.layout import Piece

# Of an artifact whose scales have a common one that is not known yet.
UNKNOWN = 1.0


@dataclass(frozen=True)
class Matrices:
    """The tensors, and for schemes that ask for it the size of each one's largest weight, and lessons."""

    checkpoint: hf.StoredTensors
    largest: Mapping[str, float] | None = None
    asked: Asked | None = None
    # What each matrix loses by each scheme, where a budget asks for it.
    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class CompressedTensorsFormat(Format[CompressedTensorsOptions, Matrices]):
    """One checkpoint a scheme."""

    name = NAME
    REVISION = 2
    RENDERS = hf.HfFormat.RENDERS  # the runtimes' own classes compute what the config says

    def renders(
        self, decoder: Decoder, options: CompressedTensorsOptions | None = None
    ) -> frozenset[Feature] | None:
        return learnable(self.RENDERS, options)

    def tools(self, options: CompressedTensorsOptions, target: str) -> dict[str, str]:
        return {"numpy": installed("numpy")} if _learns(options, target) else {}

    def limits(self, decoder: Decoder) -> tuple[str, ...]:
        """Say what no runtime reads in this layout."""
        return tuple(dict.fromkeys(matrices.limits(decoder)))

    def prepare(self, model: Model, options: CompressedTensorsOptions, recipe: Recipe) -> Matrices:
        """List the tensors, and refuse groups that do not fit."""
        for target in options.by_target():
            _require_fit(model.decoder, preset_of(options, target), target, recipe)
        asked = Asked.of(model, recipe, f"{NAME}.rounding") if options.learns_by else None
        return Matrices(hf.list_tensors(model), asked=asked)

    def learn(
        self,
        prepared: Matrices,
        model: Model,
        options: CompressedTensorsOptions,
        recipe: Recipe,
        *,
        weights: Weights,
        progress: Progress,
    ) -> Matrices:
        """Read in the headers what each tensor is stored as; for NVFP4, measure all weights."""
        if prepared.asked:
            asked = prepared.asked.learn(model, recipe, weights, progress)
            prepared = replace(prepared, asked=asked)
        checkpoint = hf.read_headers(prepared.checkpoint, model, weights)
        if options.budgets:
            choice, types = _matrices(model.decoder, options), hf.stored_types(checkpoint, "source")
            errors = budgeted.measure_errors(
                checkpoint.stored, choice, types, options, weights=weights, progress=progress
            )
            prepared = replace(prepared, errors=errors)
        if Scheme.NVFP4A16 not in options.scheme:
            return replace(prepared, checkpoint=checkpoint)
        measured = {each.name: each.pieces for each in checkpoint.stored if matrices.is_quantized(each)}
        tensors, origins = weights.checkpoint.tensors, weights.origins
        names = {(piece.origin or origins[piece.ref]).name for each in measured.values() for piece in each}
        with progress.stage("global scales", sum(tensors[name].size_bytes for name in names)) as advance:
            found = largest(weights.checkpoint, origins, measured, advance=advance)
        return replace(prepared, checkpoint=checkpoint, largest=found)

    def lay_out(
        self, model: Model, options: CompressedTensorsOptions, target: str, prepared: Matrices
    ) -> Planned:
        """Plan the files of weights, and write the small ones."""
        preset = preset_of(options, target)
        choice = matrices.choose(model.decoder, preset)
        types = hf.stored_types(prepared.checkpoint, "source")
        scales = _scales(preset, choice, types, prepared.largest)
        stored = prepared.checkpoint.stored
        asked = prepared.asked if _learns(options, target) else None
        presets, ignored = dict.fromkeys(scales, preset), choice.ignored
        groups: dict[Preset, tuple[str, ...]] = {preset: ("Linear",)}
        budget = options.budgets.get(target.removeprefix(PREFIX))
        if budget:
            presets = budgeted.choose_files(
                model.decoder, stored, types, options, choice=choice, budget=budget, errors=prepared.errors
            )
            groups, more = budgeted.modules(presets, choice)
            ignored = (*ignored, *more)
        layouts, index = shard_layouts(
            stored, types, presets, scales, max_bytes=options.max_shard_bytes, asked=asked
        )
        config = canonical_config(model, hf.torch_name(stored, types))
        config["quantization_config"] = quantization_config(groups, ignored)
        is_measured = preset.scale == "E4M3"
        return Planned(
            target,
            layouts,
            files={**companion_files(model, config), **index},
            encodings={slot.name: slot.encoding for layout in layouts for slot in layout.slots},
            **(asked.estimates if asked else {}),
            trials=budgeted.trial_weights(stored, choice, options) if budget and not prepared.errors else {},
            notes={
                **(budgeted.notes(stored, types, presets) if budget else {}),
                **(asked.notes if asked else {}),
            },
            deviations=(
                *((budgeted.DESCRIBED,) if budget else ()),
                *(asked.deviations if asked else ()),
                *_retyped(prepared, types, choice),
                *_kept(preset, choice, types),
            ),
            keeps_config=not is_relabeled(model),
            measured=sum(each.rows * each.columns for each in _pieces(prepared)) if is_measured else 0,
        )

    def weigh(
        self, decoder: Decoder, options: CompressedTensorsOptions, target: str, native: str
    ) -> Iterable[Weight] | None:
        """Count each matrix with its scales, and the rest as the source has it."""
        preset = preset_of(options, target)
        choice, kept = matrices.choose(decoder, preset), KEPT_AS.get(native, "F32")
        stored, presets = stored_tensors(decoder), dict.fromkeys(choice.groups, preset)
        if budget := options.budgets.get(target.removeprefix(PREFIX)):
            types = dict.fromkeys((each.name for each in stored), kept)
            presets = budgeted.choose(
                decoder, stored, types, options, choice=choice, budget=budget, errors={}
            )
        return [weigh(each, kept, presets.get(each.name)) for each in stored]


def _learns(options: CompressedTensorsOptions, target: str) -> bool:
    """Tell whether an artifact is rounded by what was learned."""
    scheme = options.scheme_of(target)
    return options.learns_by is not None and (scheme is None or scheme in SEARCHED)


def _matrices(decoder: Decoder, options: CompressedTensorsOptions) -> Choice:
    """List what a budget chooses the schemes of."""
    return matrices.choose(decoder, next(iter(mixable(options).values())))


def _pieces(prepared: Matrices) -> Iterator[Piece]:
    return (
        piece for each in prepared.checkpoint.stored if matrices.is_quantized(each) for piece in each.pieces
    )


def _require_fit(decoder: Decoder, preset: Preset, target: str, recipe: Recipe) -> None:
    """Refuse, with the recipe's line, groups that do not divide a matrix."""
    columns = sorted({each.shape[1] for each in stored_tensors(decoder) if matrices.is_quantized(each)})
    step = preset.least_columns
    if left := [count for count in columns if count % step]:
        is_chosen = target.removeprefix(PREFIX) not in set(Scheme) - GROUPED
        fitting = [size for size in (64, 32) if not any(count % size for count in columns)]
        sizes = " or ".join(map(str, [*fitting, "-1, a whole row"]))
        refuse_at(
            recipe,
            ("targets", NAME, "group_size" if is_chosen else "scheme"),
            f"{step} does not divide {left[0]}, the columns of a matrix",
            f"use {sizes}" if is_chosen else "leave that scheme out: fp8 and w8a8 have a scale for a row",
        )


def _scales(
    preset: Preset, choice: Choice, types: Mapping[str, str], sizes: Mapping[str, float] | None
) -> dict[str, float]:
    """Name what is quantized, each with the scale that all scales of its group have in common."""
    if preset.scale != "E4M3" or sizes is None:
        return dict.fromkeys(choice.groups, UNKNOWN)
    most: dict[int, float] = defaultdict(float)
    for name, group in choice.groups.items():
        most[group] = max(most[group], sizes[name])
    return {name: _shared(most[group], types[name]) for name, group in choice.groups.items()}


def _shared(most: float, float_name: str) -> float:
    size = rounded(np.array([most], np.float32), float_name)[0]  # type: ignore[arg-type]  # one of its three
    return shared_scale(float(size), float_name)  # type: ignore[arg-type]


def _retyped(prepared: Matrices, types: Mapping[str, str], choice: Choice) -> Iterator[Deviation]:
    """Name what keeps its numbers, and is stored as another type than in the source."""
    return (each for each in hf.retyped(prepared.checkpoint, types) if each.subject not in choice.groups)


def _kept(preset: Preset, choice: Choice, types: Mapping[str, str]) -> Iterator[Deviation]:
    """Name the matrices that the scheme's blocks do not fit."""
    for name in choice.kept:
        why = f"it is multiplied with others at once, which do not begin with blocks of {preset.rows} rows"
        yield Deviation(name, preset.name, types[name], why)


FORMAT = CompressedTensorsFormat()
