"""NVFP4 with a scale for each matrix: written, read by gguf-py, and run by llama.cpp."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gguf
import numpy as np
import pytest

from convert.errors import Failure
from convert.formats.gguf.scaling import require_scales
from convert.formats.gguf.tensors import file_tensors
from convert.writer.codecs.ggml import Ggml
from convert.writer.codecs.nvfp4 import Nvfp4, scale_of
from tests import tiny
from tests.gguf import oracle
from tests.hf import describing

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TOKENS = range(3, 60)


def can_scale(name: str) -> bool:
    decoder = tiny.described(name)
    try:
        require_scales(decoder, list(file_tensors(decoder)), "NVFP4")
    except Failure:
        return False
    return True


SCALED = [name for name in tiny.rendered("gguf") if can_scale(name)]


def read(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read all weights as gguf-py does, each multiplied by its scale."""
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    found = {name: gguf.dequantize(each.data, each.tensor_type) for name, each in tensors.items()}
    for name, each in tensors.items():
        scale = name.removesuffix(".weight") + ".scale"
        if each.tensor_type.name == "NVFP4":
            found[name] *= found.pop(scale).reshape((-1,) + (1,) * (found[name].ndim - 1))
    return found


def widened(path: Path, plain: Path) -> Path:
    """Put the numbers of a file into another of 32 bits."""
    data, values = bytearray(plain.read_bytes()), read(path)
    for tensor in gguf.GGUFReader(plain).tensors:
        bytes_ = np.ascontiguousarray(values[tensor.name], np.float32).tobytes()
        assert len(bytes_) == tensor.n_bytes
        data[tensor.data_offset : tensor.data_offset + len(bytes_)] = bytes_
    out = plain.with_suffix(".wide.gguf")
    out.write_bytes(data)
    return out


@pytest.mark.parametrize(
    "name", tiny.cases_of(SCALED, quick=("llama",), slow=("qwen3_moe", "qwen3_5_text", "nemotron_h"))
)
def test_llama_cpp_multiplies_by_the_scales(name: str, tmp_path: Path) -> None:
    """Its answers are those of a file of 32 bits with the same numbers; only activations are rounded.

    That may turn a router's choice for a token or two, so most tokens decide.
    """
    source = describing.make(tmp_path / "source", tiny.Recipe(name, spread=0.03))
    made = {
        path.stem.rsplit("-", 1)[-1]: path
        for path in describing.convert_to(tmp_path, source, "gguf: {quants: [NVFP4, F32]}").rglob("*.gguf")
    }
    types = {each: kind for each, (kind, _, _) in oracle.tensors(made["NVFP4"]).items()}
    scaled = [each for each, kind in types.items() if kind == "NVFP4"]
    assert all(types[each.removesuffix(".weight") + ".scale"] == "F32" for each in scaled)
    assert any("ffn_up" in each for each in scaled)
    found = oracle.logits(made["NVFP4"], TOKENS)
    wanted = oracle.logits(widened(made["NVFP4"], made["F32"]), TOKENS)
    assert np.median(np.sqrt(np.square(found - wanted).mean(axis=-1))) < 0.1 * wanted.std()


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("qwen2", {}, "graph of qwen2 does not multiply all of it by scales"),
        ("llama", {"mlp_bias": True}, "ends the process for scales next to an MLP's biases"),
    ],
)
def test_where_scales_would_not_count_it_is_refused(
    name: str, changes: dict[str, bool], said: str, tmp_path: Path
) -> None:
    folder = tiny.make_blank(tmp_path / "model", tiny.Recipe(name, changes))
    with pytest.raises(Failure, match=said):
        oracle.planned(folder, ["NVFP4"])


def test_a_scale_and_a_search_lose_less() -> None:
    rows = np.random.default_rng(1).normal(0, 0.02, (64, 512)).astype(np.float32)
    codec = Nvfp4(scale_of(float(np.abs(rows).max())))
    (ours,) = codec.encode(rows)
    (plain,) = Ggml("NVFP4").encode(rows)
    kind = gguf.GGMLQuantizationType.NVFP4

    def lost(data: NDArray[np.uint8], scale: float) -> float:
        return float(np.square(gguf.dequantize(data, kind) * np.float32(scale) - rows).sum())

    assert lost(ours, codec.scale) < 0.8 * lost(plain, 1.0)
    weighed = Nvfp4(codec.scale, np.geomspace(1, 1e6, 512, dtype=np.float32).tobytes())
    assert lost(weighed.encode(rows)[0], codec.scale) > lost(ours, codec.scale)
    assert not np.any(Nvfp4().encode(np.zeros((1, 64), np.float32))[0])
