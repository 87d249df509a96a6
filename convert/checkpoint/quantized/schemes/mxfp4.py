"""MXFP4 in stacks of experts: blocks of 32 codes, two to a byte, with an exponent for each block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.checkpoint.quantized.granularity import require_shape, require_type
from convert.checkpoint.quantized.matrix import Grid, Matrix
from convert.checkpoint.quantized.numbers import FP4, Across, Exponents
from convert.checkpoint.quantized.scheme import Scheme, describe, part
from convert.checkpoint.tensor import DAMAGED
from convert.errors import Failure, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.checkpoint.reader import Checkpoint
    from convert.model.config import Config

METHODS = ("mxfp4",)
LABEL = "MXFP4 (E2M1, scale per group of 32)"
GROUP = 32
_CODES, _SCALES = "_blocks", "_scales"


@dataclass(frozen=True)
class Mxfp4(Scheme):
    """Stacks stored (experts, out, blocks, 16), which Transformers' class has as (experts, in, out)."""

    def matrices(self, raw: Checkpoint) -> Iterator[Matrix]:
        """Find each stack by its blocks."""
        for name, codes in raw.tensors.items():
            if not name.endswith(_CODES):
                continue
            stem = name.removesuffix(_CODES)
            scales = part(raw, stem + _SCALES, codes)
            require_type(codes, ("U8",))
            require_type(scales, ("U8",))
            if len(codes.shape) != 4 or codes.shape[3] != GROUP // 2:
                what = f"{codes.file.name}: {shown(name)} is not (experts, rows, blocks, {GROUP // 2})"
                raise Failure(what, DAMAGED)
            experts, rows, blocks, _ = codes.shape
            require_shape(scales, (experts, rows, blocks))
            yield Matrix(
                *describe((codes, scales), stem, (experts, blocks * GROUP, rows), LABEL),
                Across(codes, (rows, blocks * GROUP), 4, tuple(FP4.tolist())),
                Grid(Exponents(scales, (rows, blocks)), (1, GROUP)),
                is_turned=True,
            )


def read(section: Config) -> Scheme:  # noqa: ARG001 - it says nothing more
    """Understand the section of a config."""
    return Mxfp4(LABEL)
