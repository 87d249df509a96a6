"""Every bit pattern of the narrow floats widens as torch widens it."""

import numpy as np
import pytest
import torch

from convert.checkpoint import to_f32
from convert.errors import Failure

NARROW = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


@pytest.mark.parametrize("dtype", NARROW)
def test_every_bit_pattern_widens_as_in_torch(dtype: str) -> None:
    width = NARROW[dtype].itemsize
    patterns = np.arange(256**width).astype(f"u{width}")
    widened = to_f32(patterns.view(np.float16) if dtype == "F16" else patterns, dtype)
    reference = torch.from_numpy(patterns).view(NARROW[dtype]).to(torch.float32).numpy()
    np.testing.assert_array_equal(widened, reference)  # NaN equals NaN here
    numbers = ~np.isnan(reference)
    assert widened[numbers].tobytes() == reference[numbers].tobytes()  # the sign of zero too


def test_f32_comes_back_uncopied() -> None:
    array = np.arange(12, dtype="<f4").reshape(3, 4)
    assert np.shares_memory(to_f32(array, "F32"), array)
    assert to_f32(array.T, "F32").flags.c_contiguous


def test_an_unaligned_f32_is_copied_to_where_c_kernels_may_read_it() -> None:
    array = np.frombuffer(b"\0" + np.arange(4, dtype="<f4").tobytes(), "<f4", offset=1)
    assert not array.flags.aligned
    widened = to_f32(array, "F32")
    assert widened.flags.aligned
    assert widened.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("dtype", ["F64", "F32", *NARROW])
@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (0, 3)])
def test_the_shape_stays_and_the_rows_are_contiguous(dtype: str, shape: tuple[int, ...]) -> None:
    stored = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}.get(dtype, "u1")
    array = np.zeros(shape, stored)
    for given in (array, array.T):
        widened = to_f32(given, dtype)
        assert isinstance(widened, np.ndarray)
        assert widened.shape == given.shape
        assert widened.flags.c_contiguous


def test_a_double_is_rounded_and_never_becomes_infinite_unsaid() -> None:
    assert to_f32(np.array([0.1, np.inf, 1e-320]), "F64").tolist() == [np.float32(0.1), np.inf, 0]
    with pytest.raises(Failure, match="too large for F32"):
        to_f32(np.array([1e300]), "F64")


@pytest.mark.parametrize("dtype", ["I64", "I32", "I16", "I8", "U8", "BOOL", "Q4_K"])
def test_what_is_no_float_is_refused_by_name(dtype: str) -> None:
    with pytest.raises(Failure, match=dtype):
        to_f32(np.zeros(3, np.uint8), dtype)


def test_an_array_of_another_type_is_a_bug() -> None:
    with pytest.raises(TypeError, match="uint16"):
        to_f32(np.zeros(3, np.float32), "BF16")
