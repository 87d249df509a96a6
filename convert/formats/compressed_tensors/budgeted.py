"""A scheme for each matrix by what it loses, under a budget of bytes or of bits a weight."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from convert.deviation import Deviation
from convert.errors import UsageFailure
from convert.formats.budget import Option, spend, with_headers
from convert.formats.compressed_tensors.options import MIXED, Scheme
from convert.formats.compressed_tensors.preset import mixable
from convert.formats.compressed_tensors.shards import shard_layouts, weigh
from convert.formats.sensitivity import sensitivity
from convert.writer.trial import SAMPLE_WEIGHTS, Trial, measure_all, sample_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from convert.formats.allowance import Budget
    from convert.formats.compressed_tensors.matrices import Choice
    from convert.formats.compressed_tensors.options import CompressedTensorsOptions
    from convert.formats.compressed_tensors.preset import Preset
    from convert.formats.hf.tensors import Stored
    from convert.model.decoder import Decoder
    from convert.model.source import Weights
    from convert.progress import Progress
    from convert.writer.codecs import Codec

    Errors = Mapping[str, Mapping[str, float]]

# What gaussian weights in groups of 128 lose by each, for plans, which are made without the weights.
TYPICAL_ERRORS = dict(zip(MIXED, (0.0135, 0.000043), strict=True))
KEPT = "as the source"
DESCRIBED = Deviation(
    "schemes of matrices",
    "the same for all",
    "chosen under the budget",
    "each matrix's error was measured on a sample of its rows",
)


def measure_errors(
    stored: Iterable[Stored],
    choice: Choice,
    types: Mapping[str, str],
    options: CompressedTensorsOptions,
    *,
    weights: Weights,
    progress: Progress,
) -> dict[str, dict[str, float]]:
    """Try the schemes on some rows of each matrix, rounded as the reference does."""
    trials = []
    for each in stored:
        if each.name in choice.groups:
            codecs: dict[str, Any] = {
                scheme: (preset.stored(types[each.name]),) * len(each.pieces)  # type: ignore[arg-type]
                for scheme, preset in mixable(options).items()
            }
            trials.append(Trial(each.name, each.pieces, codecs, (None,) * len(each.pieces)))
    return measure_all(weights, trials, progress)


def trial_weights(
    stored: Iterable[Stored], choice: Choice, options: CompressedTensorsOptions
) -> dict[Codec, int]:
    """Count the weights that each scheme is tried on, for a plan."""
    size = sum(sample_size(each.pieces) for each in stored if each.name in choice.groups)
    return {preset.stored("BF16"): size for preset in mixable(options).values()}


def choose_files(
    decoder: Decoder,
    stored: Sequence[Stored],
    types: Mapping[str, str],
    options: CompressedTensorsOptions,
    *,
    choice: Choice,
    budget: Budget,
    errors: Errors,
) -> dict[str, Preset]:
    """Choose such that a budget of bytes holds for the files, headers and all."""

    def make(headers_bytes: int) -> tuple[dict[str, Preset], int]:
        presets = choose(
            decoder,
            stored,
            types,
            options,
            choice=choice,
            budget=budget,
            errors=errors,
            headers_bytes=headers_bytes,
        )
        scales = dict.fromkeys(presets, 1.0)
        files, index = shard_layouts(stored, types, presets, scales, max_bytes=options.max_shard_bytes)
        return presets, sum(each.size_bytes for each in files) + sum(map(len, index.values()))

    return with_headers(budget, make)


def choose(
    decoder: Decoder,
    stored: Sequence[Stored],
    types: Mapping[str, str],
    options: CompressedTensorsOptions,
    *,
    choice: Choice,
    budget: Budget,
    errors: Errors,
    headers_bytes: int = 0,
) -> dict[str, Preset]:
    """Choose every matrix's scheme; what is computed as one where it runs has the same.

    A matrix that is not named keeps the source's numbers.
    """
    ways = mixable(options)
    joined: dict[int, list[Stored]] = defaultdict(list)
    for each in stored:
        if each.name in choice.groups:
            joined[choice.groups[each.name]].append(each)
    menus = {
        str(number): [
            _option(scheme, group, decoder, types, ways=ways, errors=errors) for scheme in (*ways, KEPT)
        ]
        for number, group in joined.items()
    }
    rest = [each for each in stored if each.name not in choice.groups]
    plain_bytes = sum(_weigh(each, types, None) for each in rest)
    left_bytes = budget.bytes_of(weight_count(stored)) - headers_bytes
    menus["the rest"] = [Option(KEPT, plain_bytes, 0.0)]
    chosen = spend(menus, left_bytes)
    found = {
        each.name: ways[Scheme(chosen[str(number)].name)]
        for number, group in joined.items()
        for each in group
        if chosen[str(number)].name != KEPT
    }
    if not found:
        raise UsageFailure("the budget leaves every matrix as it is", "allow less, or take hf")
    return found


def _option(
    scheme: str,
    group: Sequence[Stored],
    decoder: Decoder,
    types: Mapping[str, str],
    *,
    ways: Mapping[Any, Preset],
    errors: Errors,
) -> Option:
    preset, lost = ways.get(scheme), 0.0
    for each in group if preset else ():
        found = errors.get(each.name) or TYPICAL_ERRORS
        lost += sensitivity(decoder, (piece.ref for piece in each.pieces)) * found[scheme]  # type: ignore[index]
    return Option(scheme, sum(_weigh(each, types, preset) for each in group), lost)


def _weigh(each: Stored, types: Mapping[str, str], preset: Preset | None) -> int:
    return weigh(each, types[each.name], preset).size_bytes


def weight_count(stored: Iterable[Stored]) -> int:
    """Count the weights of all tensors."""
    return sum(piece.rows * piece.columns for each in stored for piece in each.pieces)


def modules(
    presets: Mapping[str, Preset], choice: Choice
) -> tuple[dict[Preset, tuple[str, ...]], tuple[str, ...]]:
    """Name the modules of each preset, and those that keep the source's numbers although they might not."""
    groups: dict[Preset, list[str]] = defaultdict(list)
    for name, preset in presets.items():
        groups[preset].append(name.removesuffix(".weight"))
    kept = tuple(name.removesuffix(".weight") for name in choice.groups if name not in presets)
    ordered = sorted(groups, key=lambda preset: preset.name)
    return {preset: tuple(groups[preset]) for preset in ordered}, kept


def notes(
    stored: Sequence[Stored], types: Mapping[str, str], presets: Mapping[str, Preset]
) -> dict[str, Any]:
    """Say how schemes were chosen, for the manifest."""
    size_bytes = sum(_weigh(each, types, presets.get(each.name)) for each in stored)
    counts = Counter(preset.name for preset in presets.values())
    return {
        "budget": {
            "bits_per_weight": round(8 * size_bytes / weight_count(stored), 3),
            "sampled_weights_per_tensor": SAMPLE_WEIGHTS,
            "tensors": {**counts, KEPT: len(stored) - len(presets)},
        }
    }
