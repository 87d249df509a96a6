"""Every scheme's bytes are those of the library's own functions, for each float that a source may have."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

from convert.formats.compressed_tensors.options import GROUPED, CompressedTensorsOptions, Scheme
from convert.formats.compressed_tensors.preset import preset_of
from convert.writer.codecs import lanes
from convert.writer.codecs.compensated import Searched
from convert.writer.codecs.compressed import KERNEL, Compressed, shared_scale
from convert.writer.codecs.minifloat import e2m1, e4m3, from_e4m3, rounded
from tests.compressed import library
from tests.writer.lanes import compiled

if TYPE_CHECKING:
    from convert.writer.codecs.minifloat import Float, Rows

TORCH: dict[Float, torch.dtype] = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
NAMES = ("weight", "weight_packed", "weight_scale", "weight_zero_point")
CASES: dict[str, dict[str, Any]] = {
    **{scheme.value: {"scheme": [scheme.value]} for scheme in Scheme},
    **{f"{scheme}-zero-points": {"scheme": [scheme], "symmetric": False} for scheme in sorted(GROUPED)},
    "w4a16-rows": {"scheme": ["w4a16"], "group_size": -1},
    "w8a16-32": {"scheme": ["w8a16"], "group_size": 32, "symmetric": False},
}


def matrix(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """Make rows of very different sizes, and what is easily got wrong: zeros, ties, one sign, the least."""
    random = np.random.default_rng(rows)
    values = random.standard_normal((rows, columns)).astype(np.float32)
    values *= random.choice([1e-8, 1e-4, 0.02, 1, 30], (rows, 1)).astype(np.float32)
    values[3], values[4] = 0, -0.0
    values[5, :128] = 0
    values[6], values[7] = np.abs(values[6]), -np.abs(values[7])
    values[8, ::2] = 1e-38 if dtype != torch.float16 else 6e-8
    values[9] = 1e-39 if dtype != torch.float16 else 0
    values[10] = np.round(values[10] * 8) / 8
    values[11] *= 1e3
    limit = 5e4 if dtype == torch.float16 else 1e30
    return torch.from_numpy(values.clip(-limit, limit)).to(dtype)


def codec_of(case: str, float_name: Float, largest: float) -> tuple[Compressed, QuantizationScheme]:
    options = CompressedTensorsOptions.model_validate_json(json.dumps(CASES[case]))
    preset = preset_of(options, next(iter(options.by_target())))
    weights = QuantizationArgs(**preset.weights())
    inputs = preset.inputs()
    scheme = QuantizationScheme(
        targets=["Linear"],
        weights=weights,
        input_activations=QuantizationArgs(**inputs) if inputs else None,
    )
    return preset.stored(float_name, shared_scale(largest, float_name)), scheme


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("float_name", TORCH)
@pytest.mark.parametrize("case", CASES)
def test_the_bytes_are_the_library_s(case: str, float_name: Float) -> None:
    for shape in ((128, 256), (40, 384)):
        weight = matrix(*shape, TORCH[float_name])
        rows = weight.float().numpy()
        codec, scheme = codec_of(case, float_name, float(np.abs(rows).max()))
        wanted = library.compress(weight, scheme)
        names = [name for name in NAMES if name in wanted]
        planes = codec.encode(rows)
        assert codec.row_bytes(shape[1]) == tuple(plane.shape[1] for plane in planes)
        for plane, name in zip(planes, names, strict=True):
            bits = wanted[name].contiguous().view(torch.uint8).numpy()
            assert np.array_equal(plane, bits), (shape, name)
        if "weight_global_scale" in wanted:
            assert codec.global_scale == wanted["weight_global_scale"].item()


@pytest.fixture(scope="module")
def kernel() -> Any:
    return compiled(KERNEL)


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_gives_the_same_bytes(case: str, kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for float_name, dtype in TORCH.items():
        rows = matrix(144, 384, dtype).float().numpy()
        codec, _ = codec_of(case, float_name, float(np.abs(rows).max()))
        # Rows that are not the float's numbers are rounded to them first.
        for each in (rows, (rows * np.float32(1.001)).clip(-5e4, 5e4)):
            wanted = codec.encode(each)
            with monkeypatch.context() as patched:
                patched.setitem(lanes.ready, KERNEL, kernel)
                found = codec.encode(each)
            for one, other in zip(wanted, found, strict=True):
                assert np.array_equal(one, other), (case, float_name)


@pytest.mark.parametrize("case", CASES)
def test_any_split_gives_the_same_bytes(case: str) -> None:
    rows = matrix(144, 384, torch.bfloat16).float().numpy()
    codec, _ = codec_of(case, "BF16", 30e3)
    step = max(codec.plane_rows)
    parts = [codec.encode(rows[first : first + step]) for first in range(0, len(rows), step)]
    for whole, part in zip(codec.encode(rows), zip(*parts, strict=True), strict=True):
        assert np.array_equal(whole, np.concatenate(part))


def test_small_floats_are_rounded_as_torch_rounds() -> None:
    random = np.random.default_rng(1)
    values: Rows = np.concatenate([
        random.standard_normal(20_000).astype(np.float32) * np.float32(100),
        np.ldexp(np.float32(1), random.integers(-14, 9, 20_000)) * random.integers(1, 33, 20_000) / 16,
        np.array([0, -0.0, 448, -448, 2.0**-9, 2.0**-10, 3 * 2.0**-10, 2.0**-6], np.float32),
    ]).astype(np.float32)  # fmt: skip
    values = values.clip(-448, 448)
    wanted = torch.from_numpy(values).to(torch.float8_e4m3fn)
    assert np.array_equal(e4m3(values), wanted.view(torch.uint8).numpy())
    assert np.array_equal(from_e4m3(e4m3(values)), wanted.float().numpy())
    for name, dtype in TORCH.items():
        assert np.array_equal(rounded(values, name), torch.from_numpy(values).to(dtype).float().numpy())


def test_ties_in_four_bits_go_to_the_even_number() -> None:
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], np.float32)
    assert e2m1(ties).tolist() == [0, 2, 2, 4, 4, 6, 6]
    assert e2m1(np.nextafter(ties, np.float32(9))).tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert e2m1(-ties).tolist() == [8, 10, 10, 12, 12, 14, 14]
    assert e2m1(np.array([0, -0.0], np.float32)).tolist() == [0, 0]


@pytest.mark.parametrize("case", ["w4a16", "w4a16-zero-points", "nvfp4a16", "mxfp4"])
def test_searched_scales_lose_less(case: str) -> None:
    weight = torch.from_numpy(np.random.default_rng(0).standard_normal((64, 256), np.float32)).bfloat16()
    weight[3] = 0
    rows = weight.float().numpy()
    stored, scheme = codec_of(case, "BF16", float(np.abs(rows).max()))
    state = library.compress(weight, scheme)
    names = [name for name in NAMES if name in state]
    lost = []
    for codec in (stored, Searched(stored)):
        for name, plane in zip(names, codec.encode(rows), strict=True):
            state[name] = torch.from_numpy(plane).view(state[name].dtype).reshape(state[name].shape)
        read = library.decompress(state, scheme).float().numpy()
        lost.append(float(np.square(read - rows).sum()))
    assert lost[1] < lost[0]
