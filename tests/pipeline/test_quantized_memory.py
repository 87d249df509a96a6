"""A quantized source of any size is converted within the memory that a plain one takes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from convert import plan_recipe
from convert.formats import load_recipe
from convert.pipeline.stage.estimate import PROGRAM_BYTES
from tests import tiny
from tests.bench.cases import OURS, Place
from tests.bench.checkpoint import Shape, shapes
from tests.bench.quantized import make_quantized
from tests.hf.describing import make

if TYPE_CHECKING:
    from pathlib import Path

BOUND_BYTES = (1 << 30) // 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fp8", "gptq"])
def test_memory_is_bounded_by_slices(tmp_path: Path, kind: str) -> None:
    shape = Shape(layers=8, vocab=512)
    plain = make(tmp_path / "plain", tiny.Recipe("llama"))
    config = json.loads((plain / "config.json").read_text())
    sizes = {"hidden_size": shape.hidden, "intermediate_size": shape.mlp, "num_hidden_layers": shape.layers}
    heads = {"num_attention_heads": shape.heads, "num_key_value_heads": shape.heads}
    (plain / "config.json").write_text(json.dumps({**config, **sizes, **heads}))
    named = {name: size for name, size in shapes(shape).items() if not name.endswith(".bias")}
    model = tmp_path / "model"
    make_quantized(model, kind, named, plain)
    cost = Place(tmp_path).ours(model, "gguf: {quants: [Q8_0]}").run()
    assert cost.peak_anon_bytes < PROGRAM_BYTES + BOUND_BYTES
    # Which the plan says, and which holds neither the widened model nor what is read of it.
    asked = load_recipe(tmp_path / "recipes" / OURS / "bench.yaml")
    planned = plan_recipe(asked, out=tmp_path / "other", offline=True)
    assert cost.peak_anon_bytes < planned.peak_memory_bytes < PROGRAM_BYTES + BOUND_BYTES
    assert planned.parameter_count * 4 > 5 * planned.peak_memory_bytes
