"""Bits for each matrix under a budget: kept, said, read by mlx-lm, and closer than the same bits for all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load_model

from convert.errors import UsageFailure
from convert.formats import load_recipe
from convert.writer.codecs.mlx import Affine
from tests import tiny
from tests.hf.describing import convert_to, make

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TOKENS = [int(token) for token in np.random.default_rng(3).integers(3, 256, 40)]


def bits_of(folder: Path) -> dict[str, int]:
    """Find how many bits each matrix has, by the shapes of its parts."""
    found = {}
    for path in folder.glob("*.safetensors"):
        tensors: Any = mx.load(str(path))
        for name, scales in tensors.items():
            if name.endswith(".scales"):
                stem = name.removesuffix(".scales")
                found[stem] = 32 * tensors[f"{stem}.weight"].shape[-1] // (64 * scales.shape[-1])
    return found


def logits(folder: Path) -> NDArray[np.float32]:
    model, _ = load_model(folder)
    return np.array(model(mx.array([TOKENS]))[0].astype(mx.float32))


def test_a_budget_is_kept_and_read_by_mlx_lm(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("llama", {"num_hidden_layers": 2}, spread=0.03))
    made = convert_to(tmp_path, source, "mlx: {quants: [fp32], bpw: 5.5, size: 1.5M}")
    folder = made / "mlx-5.5bpw"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    (path,) = folder.glob("*.safetensors")
    said = manifest["options"]["budget"]["bits_per_weight"]
    assert 5.2 < said <= 5.5
    assert any("chosen under the budget" in str(each) for each in manifest["deviations"])
    config = json.loads((folder / "config.json").read_text("utf-8"))["quantization"]
    bits = bits_of(folder)
    assert len(set(bits.values())) > 1
    assert bits == {name: config.get(name, config)["bits"] for name in bits}
    assert (
        1_400_000
        < sum(each.stat().st_size for each in (made / "mlx-1.5M").glob("*.safetensors"))
        <= 1_500_000
    )
    found, wanted = logits(folder), logits(made / "mlx-fp32")
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98
    again = convert_to(tmp_path / "source", source, "mlx: {bpw: 5.5}", threads=3) / "mlx-5.5bpw"
    assert (again / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("bits", [2, 3, 5, 6, 8])
def test_what_was_packed_is_read_as_mlx_reads_it(bits: Any) -> None:
    rows = np.random.default_rng(1).normal(0, 1, (8, 256)).astype(np.float32)
    codec = Affine(bits, 64, "F32")
    planes = codec.encode(rows)
    packed, scales, biases = (mx.array(np.ascontiguousarray(each)) for each in planes)
    wanted = mx.dequantize(
        packed.view(mx.uint32), scales.view(mx.float32), biases.view(mx.float32), group_size=64, bits=bits
    )
    assert np.allclose(codec.decode(planes, 256), np.array(wanted), atol=1e-6)


def test_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("model: a/b\ntargets: {mlx: {group_size: 32}}\n", "utf-8")
    with pytest.raises(UsageFailure, match="asks for nothing"):
        load_recipe(path)
