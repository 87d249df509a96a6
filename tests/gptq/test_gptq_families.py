"""Every family that GPTQ and AWQ are said to express: quantized, widened again, and asked."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert import convert_recipe
from convert.errors import Failure
from convert.formats import option_models
from convert.formats.gptq.estimate import matrices
from convert.formats.hf.tensors import stored_tensors
from convert.model.config import Config
from convert.model.families import describe
from convert.model.feature import Feature
from convert.quantizer import Method, refusal
from convert.recipe import load
from convert.store import read_manifest
from tests import tiny
from tests.gptq import making
from tests.gptq.packed import tensors
from tests.hf.describing import make

if TYPE_CHECKING:
    from convert.model.decoder import Decoder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gptqmodel") is None, reason="needs GPTQModel"),
]
ANSWERING = Path(__file__).with_name("answering.py")
IDS = [str((37 * place + 11) % 250 + 3) for place in range(64)]
# What four bits leave of random weights is a seventh off by GPTQ; AWQ moves what matters less further.
FURTHEST = {"gptq": 0.2, "awq": 0.5}
# GPTQModel by both methods, and the native engine.
METHODS: dict[str, Method] = {"gptq": "gptq", "awq": "awq", "native": "gptq"}
# One with experts, one with windows in some layers, one with a fused matrix; `make test-exhaustive` runs all.
SAMPLE = {("qwen3_moe", "gptq"), ("gemma3_text", "gptq"), ("phi3", "native"), ("gemma2", "awq")}
LAYERS = 2  # are enough where the config does not list them
MOST_LAYERS = 8  # of a variant: each takes seconds


def named(method: str) -> list[str]:
    """List the families, and those of their variants that ask for more."""
    found = tiny.rendered(method)
    plain = {name: tiny.described(name).features for name in found if "-" not in name}
    return [
        name
        for name in found
        if name in plain
        or (
            layer_count(name) <= MOST_LAYERS
            and not tiny.described(name).features <= plain.get(name.partition("-")[0], frozenset())
        )
    ]


def layer_count(name: str) -> int:
    """Count the layers that are quantized."""
    return described(name, **changes(name)).layer_count


def described(name: str, **more: Any) -> Decoder:
    """Read the config of a family or variant, with changes."""
    return describe(Config({**tiny.CONFIGS[name], **more}))[1]


def changes(name: str) -> dict[str, int]:
    """Ask for fewer layers where that leaves the features as they are."""
    config = tiny.CONFIGS[name]
    # AWQ takes rows by 64, as published models have them.
    wide = {"qk_rope_head_dim": 64} if "qk_rope_head_dim" in config else {}
    key: str = next(key for key in ("num_hidden_layers", "n_layer") if key in config)
    if "layer_types" in config or config[key] <= LAYERS:
        return wide
    fewer: dict[str, int] = {key: LAYERS, **wide}
    try:
        decoder = described(name, **fewer)
    except Failure:  # another list has an entry for each layer
        return wide
    return fewer if decoder.features == tiny.described(name).features else wide


def length(name: str) -> int:
    """Choose the length of samples, which may not pass the windows of some layers."""
    windows = [layer.mixer.window for layer in tiny.described(name).kinds if layer.mixer]
    return min([64, *(size for size in windows if size)])


def can_be_read(name: str, method: Method) -> bool:
    """Check that its rows are as those of published models, and stored as a packed source is read."""
    found = matrices(stored_tensors(described(name, **changes(name))))
    return refusal(method, found) is None and not any(each.is_transposed for each in found)


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        pytest.param(name, engine, marks=() if (name, engine) in SAMPLE else pytest.mark.exhaustive)
        for engine, method in METHODS.items()
        for name in named(method)
        if can_be_read(name, method)
    ],
)
def test_a_family_answers_as_its_packed_weights_say(name: str, engine: str, tmp_path: Path) -> None:
    method = METHODS[engine]
    source = make(tmp_path / "source", tiny.Recipe(name, changes(name), spread=0.05))
    by = {"gptq": ", engine: gptqmodel", "native": ", engine: native"}.get(engine, "")
    targets = f"hf: {{dtype: fp32}}\n  {method}: {{group_size: 32{by}}}"
    convert_recipe(
        making.recipe(tmp_path, source, targets, f"samples: 8, length: {length(name)}"),
        out=tmp_path / "artifacts",
        threads=2,
        offline=True,
    )
    made = tmp_path / "artifacts" / "recipe"
    again = tmp_path / "again.yaml"
    again.write_text(f"model: {made / method}\ntargets:\n  hf: {{dtype: fp32}}\n", "utf-8")
    convert_recipe(load(again, option_models()), out=tmp_path / "artifacts", threads=2, offline=True)
    widened = tmp_path / "artifacts" / "again" / "hf"

    was, now = tensors(made / "hf"), tensors(widened)
    assert was.keys() == now.keys()
    off = {key: float((was[key] - now[key]).norm() / was[key].norm()) for key in was if was[key].ndim > 1}
    assert max(off.values()) < FURTHEST[method], max(off, key=lambda key: off[key])
    packed = [what for what in read_manifest(made / method).tensors.values() if what.startswith(method)]
    assert len(packed) >= sum(value > 0.01 for value in off.values()) > 0

    out = tmp_path / "logits.npz"
    command = [sys.executable, str(ANSWERING), str(made / method), str(widened), str(out), *IDS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    logits = np.load(out)
    furthest = np.abs(logits["packed"] - logits["widened"]).max(-1)
    near = (furthest < 0.02 * np.abs(logits["widened"]).max()).mean()
    # Where two experts have almost the same score, 16 bits may choose the other.
    assert near > 0.75 if Feature.EXPERTS in tiny.described(name).features else near == 1
    agree = (logits["packed"].argmax(-1) == logits["widened"].argmax(-1)).mean()
    assert agree > 0.9
