"""llama.cpp's projector file goes with the text decoder of a model that reads pictures."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.errors import Failure
from convert.model.config import Config
from convert.model.families import family
from convert.store import read_manifest
from tests import tiny
from tests.gguf import converter, oracle
from tests.hf.describing import convert_to, make
from verify.runtimes.llama_cpp import find_file

if TYPE_CHECKING:
    from pathlib import Path

CASES: dict[str, dict[str, Any]] = {
    "gemma3_text": {
        "architectures": ["Gemma3ForConditionalGeneration"],
        "model_type": "gemma3",
        "mm_tokens_per_image": 4,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
    },
    "qwen3_5_text": {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "model_type": "qwen3_5",
        "vision_config": {
            "model_type": "qwen3_5_vision",
            "depth": 3,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 2,
            "num_position_embeddings": 16,
            "out_hidden_size": 256,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "deepstack_visual_indexes": [1, 2],
        },
    },
    "qwen2_vl_text": {
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "vision_config": {
            "model_type": "qwen2_vl",
            "depth": 3,
            "embed_dim": 64,
            "hidden_size": 256,
            "mlp_ratio": 2,
            "num_heads": 2,
            "in_chans": 3,
            "patch_size": 4,
            "spatial_merge_size": 2,
        },
    },
    "qwen2_5_vl_text": {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "model_type": "qwen2_5_vl",
        "vision_config": {
            "model_type": "qwen2_5_vl",
            "depth": 4,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_heads": 2,
            "out_hidden_size": 256,
            "patch_size": 4,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1, 3],
        },
    },
}
CASES["qwen3_vl_text"] = {
    **CASES["qwen3_5_text"],
    "architectures": ["Qwen3VLForConditionalGeneration"],
    "model_type": "qwen3_vl",
}
CASES["qwen3_vl_moe_text"] = {
    **CASES["qwen3_vl_text"],
    "architectures": ["Qwen3VLMoeForConditionalGeneration"],
    "model_type": "qwen3_vl_moe",
}
PREFIXES = {"gemma3_text": "language_model.model.", "qwen2_vl_text": "model.", "qwen2_5_vl_text": "model."}
PREPROCESSOR = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7], "image_seq_length": 4}
TARGETS = "gguf: {quants: [Q8_0], mmproj: true}"


def multimodal(
    folder: Path, model_type: str = "gemma3_text", spelling: int = 0, beyond: str = "", **changes: Any
) -> Path:
    """Put a text decoder inside a model with a tower, by one of the spellings of its names."""
    recipe = tiny.Recipe(model_type)
    make(folder, recipe)
    inner = json.loads((folder / "config.json").read_text("utf-8"))
    text = {key: value for key, value in inner.items() if key != "architectures"}
    outer = {**CASES[model_type], "text_config": text}
    (folder / "config.json").write_text(json.dumps({**outer, **changes}), "utf-8")
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR), "utf-8")
    made = {
        name.replace("model.", PREFIXES.get(model_type, "model.language_model."), 1): values
        for name, values in tiny.tensors(recipe).items()
    }
    random = np.random.default_rng(1)
    projector = family(model_type).gguf.projector  # type: ignore[union-attr] # it has both
    for tensor in projector.spellings[spelling](Config(outer)):  # type: ignore[union-attr]
        made[tensor.source] = random.standard_normal(tensor.source_shape, np.float32)
    if beyond:
        made[beyond] = np.ones((1, 1, 64), np.float32)
    tiny.write_safetensors(folder / "model.safetensors", made, "BF16")
    return folder


def projected(out: Path) -> Path:
    (found,) = out.glob("mmproj-*.gguf")
    return found


def test_the_file_lies_next_to_the_model_and_nothing_is_left_out(tmp_path: Path) -> None:
    out = convert_to(tmp_path, multimodal(tmp_path / "source"), TARGETS) / "gguf-Q8_0"
    assert find_file(out) != projected(out)
    manifest = read_manifest(out)
    assert not any("vision tower" in each.why for each in manifest.deviations)
    assert manifest.tensors["v.blk.1.ffn_up.weight"] == "F16"
    assert {file.path for file in manifest.files} >= {projected(out).name, find_file(out).name}
    tensors = oracle.tensors(projected(out))
    assert tensors["v.patch_embd.weight"][:2] == ("F32", (8, 8, 3, 64))
    assert oracle.fields(projected(out))["clip.vision.image_mean"] == pytest.approx([0.5, 0.4, 0.3])


@pytest.mark.parametrize(
    ("model_type", "spelling"),
    [("gemma3_text", 1), ("gemma3_text", 2), ("gemma3_text", 3), ("qwen3_5_text", 1), ("qwen2_5_vl_text", 1)],
)
def test_spellings_make_the_same_file(model_type: str, spelling: int, tmp_path: Path) -> None:
    made = []
    for number in (0, spelling):
        place = tmp_path / str(number)
        place.mkdir()
        source = multimodal(place / "source", model_type, number)
        made.append(projected(convert_to(place, source, TARGETS) / "gguf-Q8_0"))
    assert made[0].read_bytes() == made[1].read_bytes()


def test_what_has_no_place_in_the_file_is_named(tmp_path: Path) -> None:
    source = multimodal(tmp_path / "source", beyond="vision_tower.vision_model.head.probe")
    manifest = read_manifest(convert_to(tmp_path, source, TARGETS) / "gguf-Q8_0")
    said = {each.subject: each.why for each in manifest.deviations}
    assert said == {"vision_tower.vision_model.head": "the projector file has no place for it"}


@pytest.mark.parametrize(
    ("model_type", "key", "value"),
    [
        ("qwen3_5_text", "temporal_patch_size", 4),
        ("qwen2_vl_text", "hidden_act", "silu"),
        ("qwen2_5_vl_text", "window_size", 56),
        ("qwen2_5_vl_text", "fullatt_block_indexes", [0, 3]),
    ],
)
def test_what_the_graph_does_not_know_is_refused(
    model_type: str, key: str, value: object, tmp_path: Path
) -> None:
    vision = {**CASES[model_type]["vision_config"], key: value}
    with pytest.raises(Failure, match=rf"{key} {re.escape(str(value))} has no place"):
        convert_to(tmp_path, multimodal(tmp_path / "source", model_type, vision_config=vision), TARGETS)


def test_a_model_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"config\.json has no vision_config"):
        convert_to(tmp_path, multimodal(tmp_path / "source", vision_config=None), TARGETS)


def test_a_family_without_a_projector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no projector file can be written for qwen2") as caught:
        convert_to(tmp_path, make(tmp_path / "source", tiny.Recipe("qwen2")), TARGETS)
    assert "gemma3_text" in caught.value.hint


def test_a_preprocessor_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = multimodal(tmp_path / "source")
    (source / "preprocessor_config.json").unlink()
    with pytest.raises(Failure, match=r"no preprocessor_config\.json or processor_config\.json"):
        convert_to(tmp_path, source, TARGETS)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", CASES)
def test_the_file_is_that_of_llama_cpp(model_type: str, tmp_path: Path) -> None:
    try:
        folder = converter.find()
    except converter.UnreachableError as error:
        pytest.skip(str(error))
    source = multimodal(tmp_path / "source", model_type)
    with converter.Converter(folder, tmp_path / "log") as llama_cpp:
        job = {"type": "f16", "flags": ["--mmproj"], "vocabulary": "plain", "is_config_raw": False}
        said = llama_cpp.convert(source, tmp_path / "theirs.gguf", **job)
        assert not said
        job["flags"] = ["--no-mtp"] if model_type == "qwen3_5_text" else []
        assert not llama_cpp.convert(source, tmp_path / "text.gguf", **job)
    out = convert_to(tmp_path, source, TARGETS) / "gguf-Q8_0"
    decoder, wanted = oracle.fields(find_file(out)), oracle.fields(tmp_path / "text.gguf")
    for key in ("n_deepstack_layers", "rope.dimension_sections"):
        values = [found.get(f"{found['general.architecture']}.{key}") for found in (decoder, wanted)]
        assert values[0] == values[1], key
    ours = projected(out)
    (theirs,) = tmp_path.glob("*theirs.gguf")
    assert oracle.tensors(ours) == oracle.tensors(theirs)
    mine, other = oracle.fields(ours), oracle.fields(theirs)
    assert {key: value for key, value in mine.items() if not key.startswith(("general.name", "GGUF."))} == {
        key: value for key, value in other.items() if not key.startswith(("general.name", "GGUF."))
    }
