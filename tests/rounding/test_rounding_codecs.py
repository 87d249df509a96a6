"""What each codec packs of codes that were chosen, read again by the reader of its format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.formats.budget import Option, settle
from convert.rounding import round_rows
from convert.writer.codecs.compensated import Compensated
from convert.writer.codecs.compressed import Compressed
from convert.writer.codecs.ggml import Ggml
from convert.writer.codecs.ggml_blocks import BLOCKS
from convert.writer.codecs.matmul_nbits import NBits
from convert.writer.codecs.minifloat import from_e4m3
from convert.writer.codecs.mlx import Affine
from tests.rounding.test_rounding import factor_of, loss, samples

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

COLUMNS = 128


def meant(codec: Any, weights: Rows, hessian: Rows) -> Rows:
    """Widen the codes that were chosen."""
    rounded = round_rows(weights, codec.grid, factor_of(hessian))
    spread = rounded.scales.spread(codec.grid, COLUMNS)
    return spread.decode(rounded.codes.astype(np.float32), codec.grid)


@pytest.mark.parametrize("name", BLOCKS)
def test_ggml_reads_the_blocks(name: str) -> None:
    weights, hessian = samples(16, COLUMNS)
    codec = Ggml(name)
    planes = Compensated(codec, factor_of(hessian)).encode(weights)
    assert [plane.shape[1] for plane in planes] == [*codec.row_bytes(COLUMNS)]
    wanted = meant(codec, weights, hessian)
    assert np.abs(codec.decode(planes, COLUMNS) - wanted).max() < 1e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_mlx_reads_the_groups(bits: Any) -> None:
    mlx = pytest.importorskip("mlx.core")
    weights, hessian = samples(16, COLUMNS)
    codec = Affine(bits, 64, "F16")
    packed, scales, biases = Compensated(codec, factor_of(hessian)).encode(weights)
    halves = [mlx.array(each.view(np.float16).astype(np.float32)) for each in (scales, biases)]
    wide = mlx.dequantize(mlx.array(packed.view(np.uint32)), *halves, group_size=64, bits=bits)
    wanted = meant(codec, weights, hessian)
    assert np.abs(np.array(wide) - wanted).max() < 1e-6 * np.abs(wanted).max()


def widened(codec: Compressed, planes: tuple[NDArray[np.uint8], ...]) -> Rows:
    """Widen as compressed-tensors does: (code - zero) * scale."""
    packed, scales, *zeros = planes
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1).astype(np.float32)
    if codec.scale == "E8M0":
        scale = np.exp2(scales.astype(np.float32) - 127)
    elif codec.scale == "E4M3":
        scale = from_e4m3(scales) / np.float32(codec.global_scale)
    else:
        scale = (scales.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if codec.element == "FP4":
        sizes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
        codes = np.concatenate([sizes, -sizes])[codes.astype(int)]
    elif zeros:
        words = zeros[0].view(np.uint32)
        each = np.stack([words >> (4 * place) & 15 for place in range(8)], axis=1)
        codes -= np.repeat(each.reshape(-1, words.shape[1]), codec.columns, axis=1).astype(np.float32)
    else:
        codes -= 8
    wide: Rows = codes * np.repeat(scale, codec.columns, axis=1)
    return wide


@pytest.mark.parametrize(
    "codec",
    [
        Compressed("INT4", "BF16", 32, is_packed=True),
        Compressed("INT4", "BF16", 32, is_packed=True, is_symmetric=False),
        Compressed("FP4", "BF16", 16, scale="E4M3", global_scale=600.0),
        Compressed("FP4", "BF16", 32, scale="E8M0"),
    ],
    ids=lambda codec: codec.name,
)
def test_compressed_tensors_are_what_was_chosen(codec: Compressed) -> None:
    weights, hessian = samples(16, COLUMNS)
    planes = Compensated(codec, factor_of(hessian)).encode(weights)
    wanted = meant(codec, weights, hessian)
    assert np.abs(widened(codec, planes) - wanted).max() < 1e-6 * np.abs(wanted).max()
    plain = codec.encode(weights)
    lost = [(weights - found).astype(np.float64) for found in (widened(codec, plain), wanted)]
    before, after = (float(((each @ hessian) * each).sum()) for each in lost)
    assert after < 0.6 * before
    assert after == pytest.approx(loss(weights, hessian, codec.grid, factor_of(hessian)), rel=1e-3)


def test_errors_are_settled_for_few_bytes() -> None:
    """Take the larger option where it saves most for its bytes, and no more than is asked for."""
    menus = {
        "dear": [Option("small", 100, 1.0), Option("large", 200, 0.0)],
        "cheap": [Option("small", 100, 1.0), Option("large", 110, 0.0)],
        "fine": [Option("small", 100, 0.1), Option("large", 110, 0.0)],
    }
    chosen = {most: {name: each.name for name, each in settle(menus, most).items()} for most in (3, 1.2, 0.5)}
    assert chosen[3] == dict.fromkeys(menus, "small")
    assert chosen[1.2] == {**chosen[3], "cheap": "large"}
    # The last kind saves as much for a byte as the first, and comes later.
    assert chosen[0.5]["dear"] == chosen[0.5]["cheap"] == "large"


@pytest.mark.parametrize("codec", [NBits(4, 32), NBits(4, 32, is_symmetric=False), NBits(8, 64)], ids=str)
def test_blocks_are_read_again(codec: NBits) -> None:
    weights, _ = samples(8, 80)
    read = codec.decode(codec.encode(weights), 80)
    steps = np.abs(weights).max() / (1 << codec.bits - 1)
    assert np.abs(read - weights).max() <= 1.01 * steps
