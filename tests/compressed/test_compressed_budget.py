"""A scheme for each matrix under a budget: kept, said, and read alike by Transformers and our own reader."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from convert.errors import UsageFailure
from convert.writer.codecs.compressed import Compressed
from tests import tiny
from tests.compressed import library
from tests.compressed.test_compressed_checkpoint import logits, made
from tests.hf.describing import make

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_a_budget_is_kept_and_read_alike(tmp_path: Path) -> None:
    recipe = tiny.Recipe("llama", {"num_hidden_layers": 2}, dtype="F32", spread=0.03)
    source = make(tmp_path / "source", recipe)
    out = made(tmp_path, source, "{bpw: 11, size: 4M, group_size: 32}", also="hf: {}")
    folder = out / "compressed-tensors-11bpw"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert 10.5 < manifest["options"]["budget"]["bits_per_weight"] <= 11
    assert any("chosen under the budget" in str(each) for each in manifest["deviations"])
    config = json.loads((folder / "config.json").read_text("utf-8"))["quantization_config"]
    bits = {
        target: group["weights"]["num_bits"]
        for group in config["config_groups"].values()
        for target in group["targets"]
    }
    assert set(bits.values()) == {4, 8}
    assert not bits.keys() & set(config["ignore"])
    for layer in range(2):
        stem = f"model.layers.{layer}"
        for joined in (
            ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            ("mlp.gate_proj", "mlp.up_proj"),
        ):
            assert len({bits.get(f"{stem}.{name}") for name in joined}) == 1
    assert not library.differing(
        library.read(folder), library.checkpoint(library.read(out / "hf"), library.config(folder))
    )
    found, widened = logits(folder, "transformers"), logits(folder, "widened")
    assert np.abs(found - widened).max() <= 1e-4 * np.abs(widened).max()
    files = (out / "compressed-tensors-4M").glob("*.safetensors")
    assert 3_500_000 < sum(each.stat().st_size for each in files) <= 4_000_000
    (tmp_path / "again").mkdir()
    again = made(tmp_path / "again", source, "{bpw: 11, group_size: 32}", threads=3) / folder.name
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("is_symmetric", [True, False])
def test_what_was_packed_is_read_again(*, is_symmetric: bool) -> None:
    rows = np.random.default_rng(1).normal(0.3, 1, (12, 256)).astype(np.float32)
    lost = []
    for element in ("INT4", "INT8"):
        codec = Compressed(element, "F32", 64, is_packed=True, is_symmetric=is_symmetric)
        lost.append(np.abs(codec.decode(codec.encode(rows), 256) - rows).max())
    assert lost[0] < 0.3
    assert lost[1] < 0.02


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("{group_size: 32}", "asks for nothing"),
        ("{bpw: 16, group_size: 32}", "tensors-16bpw: the budget leaves every matrix as it is"),
        ("{bpw: 11, symmetric: false}", "symmetric: Transformers reads no budget with zero points"),
    ],
)
def test_a_budget_for_nothing_is_refused(options: str, said: str, tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("llama", {"num_hidden_layers": 1}))
    with pytest.raises(UsageFailure, match=said):
        made(tmp_path, source, options)
