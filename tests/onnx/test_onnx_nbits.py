"""Blocks of 4 and 8 bits: the reference's own bytes, and graphs that compute with just these numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnxruntime.capi import _pybind_state as kernels

from convert.errors import Failure
from convert.writer.codecs.matmul_nbits import NBits
from tests import tiny
from tests.onnx import genai
from tests.onnx.blocks import dequantised, make_dequantised, unpacked
from tests.onnx.source_answers import TOKENS, answers, variant

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DTYPES = {"F32": np.float32, "F16": np.float16}
RAGGED = {"hidden_size": 280, "head_dim": 32, "intermediate_size": 424}


def hard_rows(columns: int) -> NDArray[np.float32]:
    """Weights as models have them, and the cases that rounding and signs hang on."""
    random = np.random.default_rng(columns)
    rows = (random.standard_normal((48, columns)) * 0.05).astype(np.float16).astype(np.float32)
    rows[0] = 0
    rows[1, : columns // 3] = 0
    rows[2], rows[3] = np.abs(rows[2]), -np.abs(rows[3])
    rows[4] = np.round(rows[4] * 20) / 16  # many ties
    rows[5] = np.round(rows[5] * 64) / 8
    rows[6, ::2] *= -1
    rows[7] *= 100
    return rows


def reference_bytes(rows: NDArray[np.float32], codec: NBits) -> list[NDArray[np.uint8]]:
    """What onnxruntime's own kernel makes of the same rows."""
    count, columns = rows.shape
    blocks = -(-columns // codec.block_size)
    padded = np.pad(rows, ((0, 0), (0, blocks * codec.block_size - columns))).T
    packed = np.zeros((count, blocks, codec.block_size * codec.bits // 8), np.uint8)
    scales = np.zeros((count, blocks), DTYPES[codec.scale])
    zero_points = np.zeros((count, -(-blocks * codec.bits // 8)), np.uint8)
    quantize = getattr(kernels, f"quantize_matmul_{codec.bits}bits")
    weights = np.ascontiguousarray(padded, DTYPES[codec.scale])
    quantize(packed, weights, scales, zero_points, codec.block_size, count, columns, codec.is_symmetric)
    planes = [packed.reshape(count, -1), scales.view(np.uint8)]
    return planes if codec.is_symmetric else [*planes, zero_points]


@pytest.mark.parametrize("columns", [1024, 1000, 424, 46])
@pytest.mark.parametrize("block_size", [32, 64, 128])
@pytest.mark.parametrize("is_symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_bytes_are_the_kernels(bits: Any, is_symmetric: bool, block_size: int, columns: int) -> None:  # noqa: FBT001
    rows = hard_rows(columns)
    codec = NBits(bits, block_size, is_symmetric)
    planes = codec.encode(rows)
    assert tuple(plane.shape[1] for plane in planes) == codec.row_bytes(columns)
    for plane, wanted in zip(planes, reference_bytes(rows, codec), strict=True):
        assert np.array_equal(plane, wanted)


@pytest.mark.parametrize("is_symmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
def test_bytes_with_16_bit_scales_are_the_kernels_but_for_its_rounding(bits: Any, is_symmetric: bool) -> None:  # noqa: FBT001
    """The kernel computes in 16 bits then, and now and then comes out next to the nearest number."""
    rows = hard_rows(1024)[:6]
    codec = NBits(bits, 32, is_symmetric, "F16")
    planes, wanted = codec.encode(rows), reference_bytes(rows, codec)
    numbers = [unpacked(plane, bits).astype(int) for plane in (planes[0], wanted[0])]
    differences = np.abs(numbers[0] - numbers[1])
    assert differences.max() <= 1
    assert np.count_nonzero(differences) <= 0.01 * differences.size
    ours, theirs = (plane.view(np.float16).astype(np.float32) for plane in (planes[1], wanted[1]))
    assert np.allclose(ours, theirs, rtol=2e-3, atol=0)


def test_any_split_gives_the_same_bytes() -> None:
    rows = np.random.default_rng(0).standard_normal((3000, 96)).astype(np.float32)
    codec = NBits(4, 32, is_symmetric=False)
    whole = codec.encode(rows)
    parts = [codec.encode(rows[first : first + 7]) for first in range(0, len(rows), 7)]
    for plane, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        assert np.array_equal(plane, np.concatenate(pieces))


@pytest.mark.parametrize("bits", [4, 8])
def test_numbers_are_as_near_as_they_can_be(bits: Any) -> None:
    rows = hard_rows(1024)
    codec = NBits(bits, 32, is_symmetric=False)
    steps = codec.encode(rows)[1].view(np.float32)
    # A zero point is rounded too, which moves all of a block by up to half a step.
    assert (np.abs(dequantised(rows, codec) - rows) <= 1.001 * np.repeat(steps, 32, axis=1)).all()


def test_all_but_nothing_is_zero_and_too_much_is_refused() -> None:
    tiny_rows = np.full((1, 32), 1e-44, np.float32)
    assert np.isfinite(dequantised(tiny_rows, NBits(4, 32))).all()
    with pytest.raises(Failure, match="larger than a scale of 16 bits"):
        NBits(4, 32, scale="F16").encode(np.full((1, 32), 1e6, np.float32))


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    **{name: (name, {}, {}) for name in tiny.rendered("onnx")},
    "block 64": ("qwen2", {}, {"block_size": 64}),
    "block 128": ("qwen2", {}, {"block_size": 128}),
    "asymmetric": ("llama", {}, {"symmetric": False}),
    "int8": ("gpt2", {}, {"precision": "int8"}),
    "int8 asymmetric": ("qwen2", {}, {"precision": "int8", "symmetric": False, "block_size": 128}),
    "head int8": ("qwen2", {}, {"head": "int8"}),
    "head native": ("qwen", {}, {"head": "native"}),
    "tied native": ("qwen2", {}, {"head": "native"}),
    "experts int8": ("qwen3_moe", {}, {"precision": "int8"}),
    "experts asymmetric": ("qwen3_moe", {}, {"symmetric": False}),
    "tied int8": ("qwen2", {}, {"head": "int8", "embedding": "int8"}),
    "tied int4": ("gemma", {}, {"embedding": "int4", "symmetric": False}),
    "untied int4": ("qwen3", {}, {"embedding": "int4", "block_size": 128}),
    "ragged": ("qwen2", RAGGED, {}),
    "ragged asymmetric": ("qwen2", RAGGED, {"symmetric": False, "block_size": 64, "embedding": "int4"}),
    "ragged int8": ("qwen2", RAGGED, {"precision": "int8", "block_size": 128, "embedding": "int8"}),
}


# Of 8 bits, experts are multiplied with activations of 8 bits at any level; a deviation says so.
TOLERANCES = {"experts int8": 2e-2}
QUICK = ("gpt2", "qwen2", "int8", "tied int4", "ragged asymmetric")


@pytest.mark.parametrize("name", tiny.cases_of(CASES, QUICK, slow=tiny.sample(tiny.rendered("onnx"))))
def test_logits_are_those_of_the_dequantised_weights(name: str, tmp_path: Path) -> None:
    model_type, changes, said = CASES[name]
    plain = {"precision": "int4", "block_size": 32, "symmetric": True, "mixed": False}
    settings: dict[str, Any] = {**plain, **said}
    recipe = variant(model_type, **changes)
    folder = tiny.make(tmp_path / "model", recipe)
    artifact = genai.convert_folder(folder, tmp_path / "out", accuracy_level=0, **settings)
    codecs = {
        "int4": NBits(4, settings["block_size"], settings["symmetric"]),
        "int8": NBits(8, settings["block_size"], settings["symmetric"]),
        "native": None,
    }
    body = codecs[settings["precision"]]
    assert body is not None
    head = codecs[settings.get("head", settings["precision"])]
    embedding = codecs[settings.get("embedding", "native")]
    wanted = answers(make_dequantised(tmp_path / "dequantised", recipe, body, head, embedding))
    for chunks in ([TOKENS], [TOKENS[:50], *([token] for token in TOKENS[50:])]):
        assert np.abs(genai.logits(artifact, chunks) - wanted).max() < TOLERANCES.get(name, 1e-4)
    # And not by chance: the source itself answers otherwise.
    assert np.abs(answers(folder) - wanted).max() > 1e-2


def test_level_4_adds_the_noise_of_8_bits_and_no_more(tmp_path: Path) -> None:
    recipe = variant("llama")
    folder = tiny.make(tmp_path / "model", recipe)
    artifact = genai.convert_folder(folder, tmp_path / "out", precision="int4", mixed=False)
    codec = NBits(4, 32)
    wanted = answers(make_dequantised(tmp_path / "dequantised", recipe, codec, codec, None))
    assert 1e-4 < np.abs(genai.logits(artifact, [TOKENS]) - wanted).max() < 0.1
