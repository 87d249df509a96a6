"""Which matrices of an int4 artifact have 8 bits: those that lose most, until the model is close enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from convert.deviation import Deviation
from convert.formats.budget import Option, settle
from convert.formats.onnx.options import MOST_LOSS
from convert.formats.sensitivity import sensitivity
from convert.writer.codecs.matmul_nbits import NBits
from convert.writer.trial import Trial, measure_all

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.formats.budget import Menus
    from convert.model.decoder import Decoder
    from convert.model.source import Weights
    from convert.progress import Progress
    from convert.writer.layout import Layout, Slot

# What gaussian weights lose, for plans, which are made without the weights.
TYPICAL_ERRORS = {4: 0.0055, 8: 0.00003}
# Wider models lose less by the same error: by this power of their width, where they are wider than this one.
WIDTH, POWER = 576, 0.7
EIGHT_BITS: Literal[8] = 8
# Of an error, what rounding by the calibration text leaves of what it does to the outputs.
COMPENSATED = 0.35


def fine(codec: NBits, columns: int) -> NBits:
    """Store in 8 bits: steps are so small that a scale can serve more weights, where these fill its block."""
    block_size = next((size for size in (128, 64) if columns % size == 0), 32)
    return replace(codec, bits=EIGHT_BITS, block_size=block_size, is_symmetric=True)


@dataclass(frozen=True)
class Mix:
    """What is stored in 8 bits, and what is lost by it and without it."""

    chosen: Mapping[str, NBits]
    count: int  # of matrices that might be
    loss: float
    plain_loss: float

    def deviation(self) -> Deviation:
        """Say how many matrices are finer than the artifact's name says."""
        return Deviation(
            "matrices of layers",
            "int4",
            f"{len(self.chosen)} of {self.count} in int8",
            f"they lose most: {self.loss:.3f} nats are predicted, and {self.plain_loss:.3f} in int4 alone",
        )


def slots_of(layout: Layout) -> list[Slot]:
    """List the matrices that can have 8 bits: an operator for experts has one number of bits for all."""
    return [
        slot
        for slot in layout.slots
        if isinstance(slot.codec, NBits)
        and slot.codec.bits < EIGHT_BITS
        and all(piece.ref.layer is not None and piece.ref.expert is None for piece in slot.pieces)
    ]


def measure_errors(
    slots: Sequence[Slot], weights: Weights, progress: Progress
) -> dict[str, dict[str, float]]:
    """Try 4 and 8 bits on some rows of each matrix."""
    trials = [
        Trial(
            slot.name,
            slot.pieces,
            {codec.name: (codec,) * len(slot.pieces) for codec in _codecs(slot)},
            (None,) * len(slot.pieces),
        )
        for slot in slots
    ]
    return measure_all(weights, trials, progress)


def choose(
    decoder: Decoder,
    slots: Sequence[Slot],
    errors: Mapping[str, Mapping[str, float]],
    *,
    is_compensated: bool,
) -> Mix:
    """Choose 8 bits where they save most for their bytes, until little enough is lost."""
    scale = (WIDTH / max(WIDTH, decoder.hidden_size)) ** POWER * (COMPENSATED if is_compensated else 1)
    menus: Menus = {}
    for slot in slots:
        weight = scale * sensitivity(decoder, (piece.ref for piece in slot.pieces))
        found = errors.get(slot.name) or {codec.name: TYPICAL_ERRORS[codec.bits] for codec in _codecs(slot)}
        menus[slot.name] = [
            Option(codec.name, sum(replace(slot, codec=codec).sizes_bytes), weight * found[codec.name])
            for codec in _codecs(slot)
        ]
    settled = settle(menus, MOST_LOSS)
    chosen = {}
    for slot in slots:
        _, wide = _codecs(slot)
        if settled[slot.name].name == wide.name:
            chosen[slot.name] = wide
    return Mix(
        chosen,
        len(slots),
        sum(option.error for option in settled.values()),
        sum(options[0].error for options in menus.values()),
    )


def _codecs(slot: Slot) -> tuple[NBits, NBits]:
    if not isinstance(slot.codec, NBits):
        raise TypeError(f"{slot.name} has no blocks")
    return slot.codec, fine(slot.codec, slot.columns)
