"""Rows in a thread's own memory are the rows of the file, and what is copied is what would be encoded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.checkpoint import open_checkpoint
from convert.checkpoint.floats import to_f32
from convert.checkpoint.lent import Lent, Scratch
from convert.checkpoint.tensor import STORED_AS
from convert.errors import Failure
from convert.writer.codecs.plain import WIDTH_BYTES, Plain
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

    from convert.checkpoint import Checkpoint

SHAPES = {"odd": (3,), "matrix": (7, 5), "stack": (4, 6, 5), "vector": (9,)}
PARTS = (("matrix", None, 2, 6), ("matrix", None, 0, 7), ("stack", 3, 1, 5), ("vector", None, 4, 9))


def _open(folder: Path, dtype: str) -> Checkpoint:
    random = np.random.default_rng(0)
    made = {name: random.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    folder.mkdir()
    tiny.write_safetensors(folder / "model.safetensors", made, dtype)
    return open_checkpoint(folder)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_lent_rows_are_those_of_the_file(dtype: str, tmp_path: Path) -> None:
    scratch = Scratch()
    with _open(tmp_path / "model", dtype) as checkpoint:
        for _ in range(2):  # the second time in memory that is full of other rows
            for name, index, start, stop in PARTS:
                for is_transposed in (False, True) if name == "matrix" and stop < 6 else (False,):
                    where: dict[str, Any] = {"index": index, "is_transposed": is_transposed}
                    expected = checkpoint.rows(name, start, stop, **where)
                    with checkpoint.lend(scratch, name, start, stop, **where) as lent:
                        assert lent.is_finite()
                        assert lent.stored_as == (None if is_transposed else dtype)
                        assert lent.wide().tobytes() == expected.tobytes()
                        assert lent.rows.shape == expected.shape
                        assert lent.is_finite()
        with pytest.raises(IndexError), checkpoint.lend(scratch, "matrix", 2, 8):
            pass
    with pytest.raises(ValueError, match="closed"), checkpoint.lend(scratch, "matrix", 0, 1):
        pass


def test_a_file_that_is_cut_short_is_named(tmp_path: Path) -> None:
    with _open(tmp_path / "model", "BF16") as checkpoint:
        os.truncate(tmp_path / "model" / "model.safetensors", 8)
        with (
            pytest.raises(Failure, match=r"model\.safetensors: was cut short while it was read"),
            checkpoint.lend(Scratch(), "matrix", 0, 1),
        ):
            pass


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_every_finite_number_is_copied_as_it_would_be_encoded(dtype: str) -> None:
    """All there are of 16 bits, and of 32 the same with some lower bits."""
    halves = np.arange(1 << 16, dtype=np.uint32)
    bits = (
        halves.astype(np.uint16) if WIDTH_BYTES[dtype] == 2 else halves << np.uint32(16) | np.uint32(0x8001)
    )
    rows = bits.view(STORED_AS[dtype]).reshape(-1, 1)
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(to_f32(rows, dtype))[:, 0]
    assert 0 < (~finite).sum() < 5000
    kept = np.ascontiguousarray(rows[finite])
    (encoded,) = Plain(dtype).encode(to_f32(kept, dtype))  # type: ignore[arg-type]
    assert Lent(kept, dtype, Scratch()).is_finite()
    assert encoded.tobytes() == kept.tobytes()
    scratch = Scratch()
    for row in np.ascontiguousarray(rows[~finite])[::37]:
        damaged = kept[:200].copy()
        damaged[77] = row
        for is_widened in (False, True):
            lent = Lent(damaged, dtype, scratch)
            if is_widened:
                with np.errstate(invalid="ignore"):
                    lent.wide()
            assert not lent.is_finite()
