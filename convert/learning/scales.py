"""AWQ's scales: channels that the text weighs most are multiplied before matrices are rounded.

The scale of a channel is what its inputs measure, to a power that is searched: that by which rounding to
nearest loses least of the outputs, as the Hessian has it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from convert.checkpoint.scaled import Multipliers, ScaledCheckpoint
from convert.learning import learn, learn_squares
from convert.learning.batch import cut, work_bytes
from convert.model.folding import Fold, folds
from convert.model.forward.blas import single_threaded
from convert.rounding import Grid, find_scales
from convert.writer.engine import available_threads
from convert.writer.layout import Piece
from convert.writer.trial import sampled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from convert.learning.layer_file import Learned
    from convert.model.decoder import Decoder
    from convert.model.source import Model, Weights
    from convert.model.tensor import Ref
    from convert.progress import Progress
    from convert.recipe import Recipe

    Scales = NDArray[np.float32]

# Raise it when the same text gives other scales: it is in the key of artifacts.
REVISION = 1
# Powers that are tried, the first of which changes nothing.
POWERS = tuple(step / 10 for step in range(11))
# The rounding that they are tried by: what the widest-spread 4-bit types have.
TRIED = Grid(4, 64)
WHOLE = (np.float32(1),)  # share of each group's range
# Least of a channel's size, as a share of the largest: those that no token reached stay finite.
LEAST = 1e-3


def scaled(model: Model, recipe: Recipe, weights: Weights, progress: Progress) -> ScaledCheckpoint:
    """Learn from the text which channels matter, and scale them for whoever reads the weights."""
    if recipe.calibration is None or weights.lessons is None:
        raise ValueError("nothing to learn from, or no folder to keep it in")
    decoder = model.decoder
    windows = cut(model, recipe, recipe.calibration, progress)
    with progress.stage("learning scales", work_bytes(decoder, windows)) as advance:
        learn(decoder, weights, windows, weights.lessons, advance=advance)
    learned = learn_squares(decoder, weights, windows, weights.lessons)
    return ScaledCheckpoint(
        weights.checkpoint, multipliers(decoder, weights, find(decoder, weights, learned))
    )


def find(decoder: Decoder, weights: Weights, learned: Sequence[Learned]) -> dict[Fold, Scales]:
    """Search the scales of each place; those where none gains are left out."""
    by_ref = {ref: each for each in learned for ref in each.refs}
    shapes = dict(decoder.shapes())

    def one(fold: Fold) -> Scales | None:
        known = {ref: by_ref[ref] for ref in fold.after if ref in by_ref and by_ref[ref].factor}
        if not known:
            return None
        inputs = {id(each): each.squares for each in known.values()}
        size = np.sqrt(fold.channels(np.sum([*inputs.values()], axis=0, dtype=np.float32)))
        size = np.maximum(size, LEAST * size.max())
        pieces = [Piece(ref, shapes[ref][0], shapes[ref][1]) for ref in known]
        rows = dict(zip(known, sampled(weights.checkpoint, weights.origins, pieces), strict=True))
        found, least = None, np.inf
        for power in POWERS:
            scales = size**power
            scales = (scales / np.sqrt(scales.max() * scales.min())).astype(np.float32)
            lost = sum(_lost(each, fold.columns(scales), known[ref]) for ref, each in rows.items())
            if lost < least:
                found, least = scales if power else None, lost
        return found

    places = list(folds(decoder))
    with single_threaded(), ThreadPoolExecutor(available_threads(), thread_name_prefix="scales") as pool:
        searched = zip(places, pool.map(one, places), strict=True)
        return {fold: scales for fold, scales in searched if scales is not None}


def _lost(rows: NDArray[np.float32], columns: Scales, learned: Learned) -> float:
    """Sum up what rounding scaled rows changes of their outputs."""
    if learned.factor is None:
        return 0.0
    wide = rows * columns
    scales = find_scales(wide, TRIED, shares=WHOLE).spread(TRIED, wide.shape[1])
    return learned.factor.cost(scales.decode(scales.encode(wide, TRIED), TRIED) / columns - rows)


def multipliers(
    decoder: Decoder, weights: Weights, found: Mapping[Fold, Scales]
) -> dict[tuple[str, int | None], Multipliers]:
    """Say what of the source each scale multiplies or divides, as it is stored there."""
    shapes = dict(decoder.shapes())
    made: dict[tuple[str, int | None], Multipliers] = {}

    def place(ref: Ref) -> tuple[Multipliers, bool]:
        origin = weights.origins[ref]
        each = made.setdefault((origin.name, origin.index), Multipliers(is_offset=decoder.has_offset(ref)))
        return each, origin.is_transposed

    for fold, scales in found.items():
        for ref in fold.before:
            each, is_transposed = place(ref)
            name = "last" if is_transposed else "first"
            origin = weights.origins[ref]
            stored = weights.checkpoint.tensors[origin.name].shape[origin.index is not None :]
            whole = getattr(each, name)
            if whole is None:
                whole = np.ones(stored[-1 if is_transposed else 0], np.float32)
                setattr(each, name, whole)
            whole[[origin.row(row) for row in range(shapes[ref][0])]] /= scales
        for ref in fold.after:  # those that are joined in one tensor read the same channels
            each, is_transposed = place(ref)
            setattr(each, "first" if is_transposed else "last", fold.columns(scales))
    return made
