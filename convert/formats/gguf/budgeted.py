"""A type for each tensor by what it loses, under a budget of bytes or of bits a weight."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convert.formats.budget import Option, spend
from convert.formats.gguf.choosing import Choice, Shape, require_sense
from convert.formats.gguf.files import codecs_of
from convert.formats.gguf.header import align, tensor_bytes
from convert.formats.gguf.mixture import MIXTURES, fit
from convert.formats.sensitivity import sensitivity
from convert.writer.codecs.ggml import BLOCK_TYPES, Ggml
from convert.writer.trial import Trial, measure_all, sample_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from convert.formats.allowance import Budget
    from convert.formats.gguf.choosing import Wishes
    from convert.formats.gguf.importance import Importance
    from convert.formats.gguf.tensors import FileTensor
    from convert.model.decoder import Decoder
    from convert.model.source import Weights
    from convert.progress import Progress
    from convert.writer.codecs import Codec

# What gaussian weights lose by each type, for plans, which are made without the weights.
TYPICAL_ERRORS = {
    "Q2_K": 0.088,
    "Q3_K": 0.023,
    "Q4_0": 0.0074,
    "Q4_1": 0.0061,
    "Q4_K": 0.0051,
    "IQ4_NL": 0.0058,
    "IQ4_XS": 0.0059,
    "Q5_0": 0.0018,
    "Q5_1": 0.0014,
    "Q5_K": 0.0013,
    "Q6_K": 0.00032,
    "Q8_0": 0.000029,
    "F16": 1e-7,
    "IQ2_XXS": 0.12,
    "IQ2_S": 0.062,
    "IQ3_XXS": 0.033,
    "IQ3_S": 0.019,
}
# Q4_0 to Q5_0 are for weights that lie on their lattice, which lose nothing by them; others rarely take them.
MENU = ("Q2_K", "Q3_K", "Q4_0", "Q4_1", "IQ4_XS", "Q4_K", "Q5_0", "Q5_K", "Q6_K", "Q8_0")
LOW_MENU = (
    "IQ2_XXS",
    "IQ2_S",
    "IQ3_XXS",
    "IQ3_S",
)  # which need an importance matrix, and take long to search
LOW_BITS = 3.75  # where they are worth that
# The file type whose name llama.cpp shows, by the type that has most of the weights.
FILE_TYPES = {mixture.default: mixture.file_type for mixture in reversed(MIXTURES.values())}


@dataclass(frozen=True)
class Measured:
    """What each tensor loses by each type, as a share of what it makes."""

    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict, repr=False)


def _menu(tensor: FileTensor, *, is_low: bool = False) -> tuple[str, ...]:
    """List the types that a tensor may have, replaced where they do not fit its rows as usual."""
    wanted = (*(LOW_MENU if is_low else ()), *MENU)
    return tuple(dict.fromkeys(fit(each, tensor.shape[-1]) or each for each in wanted))


def measure_errors(
    listed: Sequence[FileTensor],
    importance: Importance | None,
    budgets: Iterable[Budget],
    weights: Weights,
    progress: Progress,
) -> Measured:
    """Try the types of each tensor's menu on some of its rows."""
    tried = [tensor for tensor in listed if Shape.of(tensor).is_quantized]
    is_low = any(8 * budget_bytes(each, listed) < LOW_BITS * weight_count(listed) for each in budgets)
    trials = [_trial(tensor, importance, is_low=is_low) for tensor in tried]
    return Measured(measure_all(weights, trials, progress))


def trial_weights(listed: Sequence[FileTensor]) -> dict[Codec, int]:
    """Count the weights that each type is tried on, for a plan."""
    counts: Counter[Codec] = Counter()
    for tensor in listed:
        if Shape.of(tensor).is_quantized:
            counts.update(
                {Ggml(name): sample_size(tensor.pieces) for name in _menu(tensor) if name in BLOCK_TYPES}
            )
    return counts


def _trial(tensor: FileTensor, importance: Importance | None, *, is_low: bool) -> Trial:
    known = importance is not None and tensor.name in importance.values
    codecs: dict[str, tuple[Ggml, ...]] = {}
    for type_name in _menu(tensor, is_low=is_low and known):
        if type_name in BLOCK_TYPES:
            whole, pieces = codecs_of(type_name, tensor, importance)
            codecs[type_name] = tuple(piece.codec or whole for piece in pieces)  # type: ignore[misc] # ggml's
    weights = tuple(each.weights for each in next(iter(codecs.values()), ()))
    return Trial(tensor.name, tensor.pieces, codecs, weights or (None,) * len(tensor.pieces))


def choose_by_budget(
    decoder: Decoder,
    listed: Sequence[FileTensor],
    wishes: Wishes,
    measured: Measured,
    budget: int,
) -> Choice:
    """Choose every tensor's type, such that all of them fit into a budget of bytes."""
    require_sense([Shape.of(tensor) for tensor in listed], wishes)
    menus = {}
    for tensor in listed:
        shape = Shape.of(tensor)
        fixed = wishes.of(shape) if shape.is_quantized else "F32"
        errors = measured.errors.get(tensor.name) or {name: TYPICAL_ERRORS[name] for name in _menu(tensor)}
        weight = sensitivity(decoder, (piece.ref for piece in tensor.pieces))
        options = {fixed: 0.0} if fixed else errors
        menus[tensor.name] = [
            Option(name, align(tensor_bytes(tensor.shape, name)), weight * error)
            for name, error in options.items()
        ]
    chosen = spend(menus, budget)
    return Choice({tensor.name: chosen[tensor.name].name for tensor in listed})


def file_type(listed: Sequence[FileTensor], types: Mapping[str, str]) -> int:
    """Name the file after the type that has most of its weights."""
    counts: Counter[str] = Counter()
    for tensor in listed:
        counts[types[tensor.name]] += math.prod(tensor.shape)
    return FILE_TYPES.get(counts.most_common(1)[0][0], MIXTURES["Q4_K_M"].file_type)


def budget_bytes(budget: Budget | None, listed: Sequence[FileTensor]) -> int:
    """Say how much the tensors of a file may weigh; 0 where a mixture decides."""
    return 0 if budget is None else budget.bytes_of(weight_count(listed))


def weight_count(listed: Iterable[FileTensor]) -> int:
    """Count the weights of a file."""
    return sum(math.prod(tensor.shape) for tensor in listed)
