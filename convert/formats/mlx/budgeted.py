"""Bits for each matrix by what it loses, under a budget of bytes or of bits a weight."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from convert.deviation import Deviation
from convert.formats.budget import Option, spend, with_headers
from convert.formats.mlx.options import Quant
from convert.formats.mlx.tensors import Packed, Tensor, layouts, packed, tensors
from convert.formats.sensitivity import sensitivity
from convert.writer.codecs.mlx import Affine
from convert.writer.trial import SAMPLE_WEIGHTS, Trial, measure_all, sample_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from convert.formats.allowance import Budget
    from convert.formats.hf.tensors import Float, Stored
    from convert.formats.mlx.options import MlxOptions
    from convert.model.decoder import Decoder
    from convert.model.source import Weights
    from convert.progress import Progress
    from convert.writer.codecs import Codec

    Errors = Mapping[str, Mapping[str, float]]

# What gaussian weights in groups of 64 lose by each, for plans, which are made without the weights.
TYPICAL_ERRORS = {
    Quant.BITS_2: 0.19,
    Quant.BITS_3: 0.036,
    Quant.BITS_4: 0.0079,
    Quant.BITS_5: 0.0018,
    Quant.BITS_6: 0.00045,
    Quant.BITS_8: 0.000027,
}
DESCRIBED = Deviation(
    "bits of matrices",
    "the same for all",
    "chosen under the budget",
    "each matrix's error was measured on a sample of its rows",
)


@dataclass(frozen=True)
class Mix:
    """How each matrix is packed, and what the config says of those that it does not name."""

    how: Packed
    own: Mapping[str, Packed] = field(default_factory=dict)


def notes(found: Sequence[Tensor]) -> dict[str, Any]:
    """Say how bits were chosen, for the manifest."""
    return {
        "budget": {
            "bits_per_weight": round(8 * _size(found) / weight_count(found), 3),
            "sampled_weights_per_tensor": SAMPLE_WEIGHTS,
            "tensors": dict(Counter(each.slot.encoding for each in found).most_common()),
        }
    }


def menu(options: MlxOptions) -> dict[Quant, Packed]:
    """List the ways in which a matrix may be packed."""
    is_searched = options.is_searched(None)
    found = {quant: packed(quant, options.group_size, is_searched=is_searched) for quant in TYPICAL_ERRORS}
    return {quant: how for quant, how in found.items() if how}


def widest(options: MlxOptions) -> Packed:
    """Pack by the most bits of the menu."""
    return replace(menu(options)[Quant.BITS_8], is_searched=False)


def measure_errors(
    found: Sequence[Tensor], options: MlxOptions, weights: Weights, progress: Progress
) -> dict[str, dict[str, float]]:
    """Try the bits of the menu on some rows of each matrix, rounded as MLX does."""
    trials = []
    for each in _chosen(found):
        codecs: dict[str, Any] = {
            quant: (replace(how, is_searched=False).codec(_dtype(each)),) * len(each.slot.pieces)
            for quant, how in menu(options).items()
        }
        trials.append(Trial(each.name, each.slot.pieces, codecs, (None,) * len(each.slot.pieces)))
    return measure_all(weights, trials, progress)


def trial_weights(found: Sequence[Tensor], options: MlxOptions) -> dict[Codec, int]:
    """Count the weights that each way is tried on, for a plan."""
    counts: Counter[Codec] = Counter()
    for each in _chosen(found):
        size = sample_size(each.slot.pieces)
        counts.update({replace(how, is_searched=False).codec("BF16"): size for how in menu(options).values()})
    return counts


def choose_files(
    decoder: Decoder,
    stored: Sequence[Stored],
    types: Mapping[str, Float],
    options: MlxOptions,
    *,
    budget: Budget,
    errors: Errors,
    max_bytes: int,
) -> Mix:
    """Choose such that a budget of bytes holds for the files, headers and all."""

    def make(headers_bytes: int) -> tuple[Mix, int]:
        mix = choose(
            decoder, stored, types, options, budget=budget, errors=errors, headers_bytes=headers_bytes
        )
        files, more = layouts(tensors(stored, decoder, mix.how, types, own=mix.own), max_bytes)
        return mix, sum(each.size_bytes for each in files) + sum(map(len, more.values()))

    return with_headers(budget, make)


def choose(
    decoder: Decoder,
    stored: Sequence[Stored],
    types: Mapping[str, Float],
    options: MlxOptions,
    *,
    budget: Budget,
    errors: Errors,
    headers_bytes: int = 0,
) -> Mix:
    """Choose every matrix's bits, such that all tensors fit into the budget."""
    ways = menu(options)
    wide = tensors(stored, decoder, widest(options), types)
    sizes = {
        quant: {each.name: _size([each]) for each in tensors(stored, decoder, how, types)}
        for quant, how in ways.items()
    }
    free = {each.name for each in _chosen(wide)}
    left_bytes = budget.bytes_of(weight_count(wide)) - headers_bytes
    # Bits that all can have are taken from none: what 3 bits lose is more than a line through small errors
    # says (SmolLM2 at the size of 4 bits: 0.52 nats by 3 to 6 bits, 0.45 by 4 for all).
    fixed_bytes = sum(_size([each]) for each in wide if each.name not in free)
    fitting = [q for q in ways if fixed_bytes + sum(sizes[q][name] for name in free) <= left_bytes]
    offered = [q for q in ways if not fitting or ways[q].bits >= ways[fitting[-1]].bits]
    menus = {}
    for each in wide:
        if each.name not in free:
            menus[each.name] = [Option("", _size([each]), 0.0)]
            continue
        weight = sensitivity(decoder, (piece.ref for piece in each.slot.pieces))
        lost = errors.get(each.name) or TYPICAL_ERRORS
        menus[each.name] = [Option(quant, sizes[quant][each.name], weight * lost[quant]) for quant in offered]
    chosen = {name: option.name for name, option in spend(menus, left_bytes).items()}
    usual = Counter(chosen[name] for name in sorted(free)).most_common(1)
    how = ways[Quant(usual[0][0])] if usual else widest(options)
    return Mix(how, {name: ways[Quant(chosen[name])] for name in free})


def weight_count(found: Iterable[Tensor]) -> int:
    """Count the weights of all tensors."""
    return sum(each.slot.rows * each.slot.columns for each in found)


def _chosen(found: Iterable[Tensor]) -> list[Tensor]:
    """List the matrices whose bits may be chosen: not those of which mlx-lm asks for 8."""
    return [each for each in found if each.how and not each.is_wide]


def _dtype(each: Tensor) -> Float:
    """Name the type of a matrix's scales."""
    codec = each.slot.codec
    if not isinstance(codec, Affine):
        raise TypeError(f"{each.name} is not packed as the menu says")
    return codec.dtype


def _size(found: Iterable[Tensor]) -> int:
    return sum(entry.size_bytes for each in found for entry in each.entries)
