"""MLX's bytes are those of `mlx.core.quantize`."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from convert.writer.codecs import lanes
from convert.writer.codecs.compensated import Searched
from convert.writer.codecs.mlx import KERNEL, SIZES, Affine, Mode, SmallFloat, to_e4m3
from tests.writer.lanes import compiled

TYPES = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
RANDOM = np.random.default_rng(0)


def hard_rows(columns: int = 512) -> Any:
    """Weights of all sizes, and groups of zeros, of one number, of ties and of numbers next to nothing."""
    sizes = np.exp(RANDOM.standard_normal((96, 1), np.float32) * np.float32(3))
    rows = RANDOM.standard_normal((96, columns), np.float32) * np.minimum(sizes, np.float32(1000))
    rows[0], rows[1], rows[2], rows[3, ::2] = 0, 0.5, -0.3, 0
    rows[4] = RANDOM.integers(-12, 13, columns) / np.float32(4)
    rows[5] *= np.float32(1e-6)
    return rows


def planes(rows: Any, dtype: str, **how: Any) -> list[Any]:
    """Quantize by MLX."""
    found = mx.quantize(mx.array(rows).astype(TYPES[dtype]), **how)
    return [np.array(each.view(mx.uint8)) for each in found]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_whole_numbers(bits: Any, dtype: Any) -> None:
    rows = hard_rows()
    for group_size in (32, 64, 128):
        made = Affine(bits, group_size, dtype).encode(rows)
        wanted = planes(rows, dtype, group_size=group_size, bits=bits)
        assert [np.array_equal(ours, theirs) for ours, theirs in zip(made, wanted, strict=True)] == [True] * 3


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_the_kernel_gives_the_same_bytes(bits: Any, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = hard_rows()
    monkeypatch.delitem(lanes.ready, KERNEL, raising=False)
    for group_size in (32, 64, 128):
        codec = Affine(bits, group_size, dtype)
        wanted = codec.encode(rows)
        with monkeypatch.context() as patched:
            patched.setitem(lanes.ready, KERNEL, compiled(KERNEL))
            made = codec.encode(rows)
        assert [np.array_equal(one, other) for one, other in zip(made, wanted, strict=True)] == [True] * 3


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("mode", SIZES)
def test_small_floats(mode: Mode, dtype: Any) -> None:
    rows = hard_rows()
    made, wanted = SmallFloat(mode, dtype).encode(rows), planes(rows, dtype, mode=mode)
    assert [np.array_equal(ours, theirs) for ours, theirs in zip(made, wanted, strict=True)] == [True] * 2


@pytest.mark.parametrize("mode", SIZES)
def test_every_scale_that_sixteen_bits_can_be(mode: Mode) -> None:
    """All that bfloat16 can be, but for what is next to nothing or beyond any weight."""
    sizes = (np.arange(0x0800, 0x5000, dtype=np.uint32) << 16).view(np.float32)
    rows = np.zeros((len(sizes), SIZES[mode][1]), np.float32)
    rows[:, 0], rows[:, 1], rows[:, 2] = sizes, -sizes / 3, sizes / 7
    made, wanted = SmallFloat(mode, "BF16").encode(rows), planes(rows.reshape(8, -1), "BF16", mode=mode)
    for ours, theirs in zip(made, wanted, strict=True):
        assert np.array_equal(ours.reshape(-1), theirs.reshape(-1))


def test_floats_of_eight_bits() -> None:
    values = RANDOM.standard_normal(100_000, np.float32) * np.exp(RANDOM.uniform(-9, 8, 100_000))
    values = np.concatenate([values.astype(np.float32), np.arange(-64, 65, dtype=np.float32) / 1024])
    assert np.array_equal(to_e4m3(values), np.array(mx.to_fp8(mx.array(values))))


def test_any_split_gives_the_same_bytes() -> None:
    rows = hard_rows()
    for codec in (Affine(6, 32, "BF16"), SmallFloat("nvfp4", "BF16")):
        whole = codec.encode(rows)
        parts = [codec.encode(rows[first : first + 7]) for first in range(0, len(rows), 7)]
        for number, plane in enumerate(whole):
            assert np.array_equal(plane, np.concatenate([part[number] for part in parts]))
            assert plane.shape[1] == codec.row_bytes(rows.shape[1])[number]


@pytest.mark.parametrize(
    "stored", [Affine(4, 64, "BF16"), SmallFloat("mxfp4", "BF16"), SmallFloat("nvfp4", "F16")]
)
def test_searched_scales_lose_less(stored: Affine | SmallFloat) -> None:
    rows = RANDOM.standard_normal((96, 512), np.float32)
    rows[3] = 0
    how: Any = {"mode": stored.mode} if isinstance(stored, SmallFloat) else {"group_size": 64, "bits": 4}
    lost = []
    for codec in (stored, Searched(stored)):
        packed, scales, *biases = codec.encode(rows)
        kind = TYPES[stored.dtype] if biases else mx.uint8
        parts: Any = [mx.array(each).view(kind) for each in (scales, *biases)]
        read = mx.dequantize(mx.array(packed).view(mx.uint32), *parts, **how).astype(mx.float32)
        lost.append(float(np.square(np.array(read) - rows).sum()))
    assert lost[1] < 0.95 * lost[0]
