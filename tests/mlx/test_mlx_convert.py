"""The artifacts are what `mlx_lm.convert` writes: names, types, shapes, bytes of tensors; and the config."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.convert import convert

from convert import plan_recipe
from convert.errors import UsageFailure
from convert.formats import load_recipe
from convert.store import read_manifest
from tests import tiny
from tests.hf.describing import convert_to, make

if TYPE_CHECKING:
    from pathlib import Path

QUANTS: dict[str, dict[str, Any]] = {
    "4bit": {"quantize": True},
    "6bit": {"quantize": True, "q_bits": 6},
    "mxfp4": {"quantize": True, "q_mode": "mxfp4"},
    "nvfp4": {"quantize": True, "q_mode": "nvfp4"},
    "mxfp8": {"quantize": True, "q_mode": "mxfp8"},
    "bf16": {},
}
QUICK = ("gpt2",)
SLOW = ("qwen3_moe", "gemma3_text", "granite", "qwen3_next", "deepseek_v2", "lfm2_moe", "gemma4_text")
# mlx-lm reads the names of the published repo, which Transformers does not write.
OWN_NAMES = ("gpt2",)
# Its reading of this family's experts is for MXFP4 alone.
UNREAD = ("gpt_oss", "gpt_oss-parameters", "gpt_oss-uneven")
COMPARED = [name for name in tiny.rendered("mlx") if name not in UNREAD]


def stored(folder: Path) -> dict[str, Any]:
    """Read all tensors, as type, shape and bytes."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        loaded: Any = mx.load(str(path), return_metadata=True)
        tensors, metadata = loaded
        assert metadata == {"format": "mlx"}
        for name, each in tensors.items():
            found[name] = (str(each.dtype), each.shape, np.array(each.view(mx.uint8)).tobytes())
    return found


def theirs(source: Path, ours: Path, out: Path, **how: Any) -> Path:
    """Convert the checkpoint in Transformers' own layout by mlx-lm, with the config keys that we complete."""
    folder = shutil.copytree(source, out.with_name(f"{out.name}-source"))
    config = json.loads((ours / "config.json").read_text("utf-8"))
    for key in ("quantization", "quantization_config"):
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with contextlib.redirect_stdout(io.StringIO()):
        convert(str(folder), str(out), **how)
    return out


def differing(name: str, quants: tuple[str, ...], place: Path) -> dict[str, list[str]]:
    """Convert by both, and list the tensors of each quant that differ."""
    is_own = name in OWN_NAMES
    source = make(place / "source", tiny.Recipe(name, shards=2, has_prefix=not is_own))
    made = convert_to(place, source, f"hf: {{}}\n  mlx: {{quants: [{', '.join(quants)}]}}")
    found = {}
    for quant in quants:
        ours = made / f"mlx-{quant}"
        other = theirs(source if is_own else made / "hf", ours, place / quant, **QUANTS[quant])
        mine, wanted = stored(ours), stored(other)
        found[quant] = sorted(key for key in mine.keys() | wanted.keys() if mine.get(key) != wanted.get(key))
        configs = [json.loads((folder / "config.json").read_text("utf-8")) for folder in (ours, other)]
        assert configs[0] == configs[1]
    return {quant: names for quant, names in found.items() if names}


# mlx-lm reads its own Gemma 4 by Transformers, which warns of the name of a setting.
@pytest.mark.filterwarnings("ignore:`rope_scaling` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", tiny.cases_of(COMPARED, QUICK, SLOW))
def test_the_tensors_are_those_of_mlx_lm(name: str, tmp_path: Path) -> None:
    quants = ("4bit",) if name in QUICK else ("4bit", "mxfp4", "bf16")
    assert not differing(name, quants, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2", "qwen3_moe", "gpt2"])
def test_every_quant(name: str, tmp_path: Path) -> None:
    assert not differing(name, tuple(QUANTS), tmp_path)


def test_shards_hold_the_same_tensors_and_rows_too_short_are_named(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("llama", {"intermediate_size": 288}))
    whole = convert_to(tmp_path, source, "mlx: {quants: [4bit]}") / "mlx-4bit"
    (tmp_path / "parts").mkdir()
    parts = convert_to(tmp_path / "parts", source, "mlx: {quants: [4bit], max_shard_size: 1M}") / "mlx-4bit"
    assert len(list(parts.glob("model-*-of-*.safetensors"))) > 1
    assert stored(parts) == stored(whole)
    said = [each for each in read_manifest(whole).deviations if "down_proj" in each.subject]
    assert said
    assert said[0].why == "its rows are no multiple of 64"
    assert stored(whole)["model.layers.0.mlp.down_proj.weight"][0] == "mlx.core.bfloat16"


def test_sixteen_bits_are_for_all_but_what_needs_more(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("glm4_moe", dtype="F32"))
    made = convert_to(tmp_path, source, "mlx: {quants: [4bit], dtype: bf16}") / "mlx-4bit"
    found = stored(made)
    types = {name.rpartition(".")[2]: kind for name, (kind, _, _) in found.items() if "norm" not in name}
    assert types["scales"] == types["biases"] == "mlx.core.bfloat16"
    assert types["e_score_correction_bias"] == "mlx.core.float32"
    assert found["model.norm.weight"][0] == "mlx.core.bfloat16"


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("quants: [4bits]", "quants[0]: '4bits' is not known"),
        (
            "quants: [mxfp4], group_size: 32",
            "group_size: is of 2bit to 8bit, and mxfp4 would be built without it",
        ),
        ("quants: [bf16], dtype: fp16", "dtype: is of what is quantized, and bf16 would be built without it"),
    ],
)
def test_wrong_options_are_refused(settings: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"model: a/b\ntargets: {{mlx: {{{settings}}}}}\n", "utf-8")
    with pytest.raises(UsageFailure) as caught:
        load_recipe(path)
    assert fault in caught.value.message


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bloom", "this family"),
        ("qwen2_moe-some_dense", "layers with different MLPs"),
        ("phi-normed", "norms"),
    ],
)
def test_what_mlx_lm_cannot_compute_is_refused(name: str, why: str, tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe(name))
    path = tmp_path / "refused.yaml"
    path.write_text(f"model: {source}\ntargets: {{mlx: {{quants: [4bit]}}}}\n", "utf-8")
    with pytest.raises(UsageFailure, match=f"cannot express .*{why}"):
        plan_recipe(load_recipe(path), out=tmp_path / "out", offline=True)
