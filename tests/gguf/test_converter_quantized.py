"""A quantized source gives the floats that llama.cpp's own converter widens it to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from tests.checkpoint.quantized.sources import CASES, quantized, stacked
from tests.gguf.test_converter import differing_tensors, llama_cpp, with_tokenizer  # noqa: F401 - a fixture
from tests.hf.describing import convert_to

if TYPE_CHECKING:
    from pathlib import Path

    from tests.gguf.converter import Converter

pytestmark = pytest.mark.slow


def both(source: Path, place: Path, converter: Converter) -> tuple[Path, Path]:
    with_tokenizer(source)
    theirs = place / "theirs.gguf"
    error = converter.convert(source, theirs, type="f32", vocabulary="plain", is_config_raw=True, flags=())
    assert not error
    (ours,) = (convert_to(place, source, "gguf: {quants: [F32]}") / "gguf-F32").glob("*.gguf")
    return ours, theirs


@pytest.mark.parametrize("case", CASES)
def test_the_same_floats(case: str, tmp_path: Path, llama_cpp: Converter) -> None:  # noqa: F811
    ours, theirs = both(quantized(tmp_path / "source", case), tmp_path, llama_cpp)
    assert differing_tensors(ours, theirs) == {}


def test_the_same_experts(tmp_path: Path, llama_cpp: Converter) -> None:  # noqa: F811
    """It keeps blocks of MXFP4 as they are, in an order of its format."""
    ours, theirs = both(stacked(tmp_path / "source"), tmp_path, llama_cpp)
    experts = {name for name in differing_tensors(ours, theirs) if "_exps.weight" in name}
    assert experts == set(differing_tensors(ours, theirs))
    mine, other = ({each.name: each for each in gguf.GGUFReader(path).tensors} for path in (ours, theirs))
    assert experts
    for name in experts:
        assert other[name].tensor_type == gguf.GGMLQuantizationType.MXFP4
        widened = gguf.dequantize(other[name].data, other[name].tensor_type)
        assert np.array_equal(mine[name].data, widened), name
