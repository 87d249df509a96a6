"""A quantized checkpoint that is damaged, or of a kind that is not read, is refused in one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from convert.checkpoint import open_checkpoint
from convert.checkpoint.quantized import without_sections
from convert.errors import Failure
from tests.checkpoint.quantized.widening import codes, save, seeded, words

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Tensors = dict[str, torch.Tensor]
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}
MXFP4 = {"quant_method": "mxfp4"}
MODELOPT = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
CT_GROUP: dict[str, Any] = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}


def compressed(**weights: Any) -> dict[str, Any]:
    groups = {"group_0": {"targets": ["Linear"], "weights": {**CT_GROUP, **weights}}}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups}


def fp8() -> Tensors:
    weight = (seeded(256, 256) * 1000).to(torch.float8_e4m3fn)
    return {"a.weight": weight, "a.weight_scale_inv": torch.ones(2, 2)}


def gptq() -> Tensors:
    return {
        "a.qweight": words(codes(16, 64, 16), 4, 0),
        "a.qzeros": words(codes(16, 2, 16), 4, 1),
        "a.scales": torch.ones(2, 16),
        "a.g_idx": torch.arange(64).div(32, rounding_mode="floor").int(),
    }


def awq() -> Tensors:
    return {
        "a.qweight": words(codes(16, 64, 16), 4, 1),
        "a.qzeros": words(codes(16, 2, 16), 4, 1),
        "a.scales": torch.ones(2, 16),
    }


def packed() -> Tensors:
    return {
        "a.weight_packed": words(codes(16, 16, 64), 4, 1),
        "a.weight_scale": torch.ones(16, 2),
        "a.weight_shape": torch.tensor([16, 64]),
    }


def mxfp4() -> Tensors:
    blocks = codes(256, 2, 8, 2, 16).to(torch.uint8)
    return {"a_blocks": blocks, "a_scales": torch.full((2, 8, 2), 127, dtype=torch.uint8)}


def nvfp4() -> Tensors:
    return {
        "a.weight": codes(256, 16, 32).to(torch.uint8),
        "a.weight_scale": torch.ones(16, 4).to(torch.float8_e4m3fn),
        "a.weight_scale_2": torch.tensor(0.5),
    }


def put(name: str, tensor: torch.Tensor) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.update({name: tensor})


def drop(name: str) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.__delitem__(name)


def number(name: str, value: float) -> Callable[[Tensors], None]:
    """Change the first number of a tensor."""

    def change(tensors: Tensors) -> None:
        tensors[name].view(-1)[0] = value

    return change


SOUND: dict[str, tuple[dict[str, Any], Callable[[], Tensors]]] = {
    "fp8": (FP8, fp8),
    "gptq": (GPTQ, gptq),
    "awq": (AWQ, awq),
    "packed": (compressed(), packed),
    "mxfp4": (MXFP4, mxfp4),
    "nvfp4": (MODELOPT, nvfp4),
}
OPENING = [
    ("fp8", drop("a.weight_scale_inv"), "stored as F8_E4M3, and no scale goes with it"),
    ("fp8", put("a.weight_scale_inv", torch.ones(2, 3)), "2 x 3, which does not fit a matrix of 256 x 256"),
    ("fp8", put("a.weight_scale_inv", torch.ones(2, 2).int()), "is stored as I32, and should be F32 or"),
    ("fp8", put("a.weight", torch.ones(256, 256)), "a.weight is stored as F32, and should be F8_E4M3"),
    ("fp8", put("a.weight", torch.ones(256).to(torch.float8_e4m3fn)), "a.weight is 256, and no matrix"),
    ("gptq", drop("a.scales"), "a.qweight has no a.scales"),
    ("gptq", put("a.scales", torch.ones(3, 16)), "a.scales is 3 x 16, and should be 2 x 16"),
    ("gptq", put("a.qzeros", torch.ones(2, 3).int()), "a.qzeros is 2 x 3, and should be 2 x 2"),
    ("gptq", put("a.g_idx", torch.zeros(63).int()), "a.qweight does not hold 63 inputs"),
    ("gptq", put("a.qweight", torch.ones(8, 16)), "a.qweight is stored as F32, and should be I32"),
    ("awq", drop("a.qzeros"), "a.qweight has no a.qzeros"),
    ("awq", put("a.scales", torch.ones(2, 8)), "a.scales is 2 x 8, and should be 2 x 16"),
    ("packed", drop("a.weight_scale"), "a.weight_packed has no a.weight_scale"),
    ("packed", drop("a.weight_shape"), "a.weight_packed has no a.weight_shape"),
    ("packed", put("a.weight_shape", torch.tensor([16, 72])), "packed is 16 x 8, and should be 16 x 9"),
    ("packed", put("a.weight_scale", torch.ones(16, 3)), "is 16 x 3, which does not fit a matrix of 16 x 64"),
    ("packed", put("a.weight_g_idx", torch.ones(3).int()), "a.weight_g_idx is 3, and should be 64"),
    ("mxfp4", drop("a_scales"), "a_blocks has no a_scales"),
    ("mxfp4", put("a_scales", torch.ones(2, 8, 3).byte()), "is 2 x 8 x 3, and should be 2 x 8 x 2"),
    ("mxfp4", put("a_blocks", torch.ones(2, 8, 2, 15).byte()), "is not (experts, rows, blocks, 16)"),
    ("nvfp4", put("a.weight_scale", torch.ones(16, 4)), "is stored as F32, and should be F8_E4M3"),
    ("nvfp4", put("a.weight_scale_2", torch.ones(3)), "weight_scale_2 is 3, and should be a single number"),
    ("nvfp4", put("a.pre_quant_scale", torch.ones(3)), "the weights are ModelOpt's AWQ, which is not read"),
]  # fmt: skip
READING = [
    ("fp8", number("a.weight_scale_inv", 0), "holds a scale of zero for weights that are not zero"),
    ("fp8", number("a.weight_scale_inv", float("nan")), "holds a scale that is infinite or not a number"),
    ("fp8", number("a.weight_scale_inv", float("inf")), "holds a scale that is infinite or not a number"),
    ("gptq", number("a.scales", 0), "holds a scale of zero for weights that are not zero"),
    ("gptq", number("a.g_idx", 2), "a.g_idx names a group outside of the 2 that have scales"),
    ("awq", number("a.scales", float("nan")), "holds a scale that is infinite or not a number"),
    ("packed", number("a.weight_scale", 0), "holds a scale of zero for weights that are not zero"),
    ("mxfp4", number("a_scales", 255), "holds a scale that is infinite or not a number"),
    ("nvfp4", number("a.weight_scale_2", 0), "holds a scale of zero for weights that are not zero"),
    ("nvfp4", number("a.weight_scale", float("nan")), "holds a scale that is infinite or not a number"),
]


def read(folder: Path) -> None:
    with open_checkpoint(folder) as checkpoint:
        ((name, info),) = checkpoint.tensors.items()
        index = 0 if len(info.shape) == 3 else None
        checkpoint.rows(name, 0, 8, index=index, is_transposed=index is not None)


def refused(folder: Path, *, is_read: bool = False) -> str:
    with pytest.raises(Failure) as raised:
        (read if is_read else open_checkpoint)(folder)
    failure = raised.value
    assert failure.hint
    assert "\n" not in failure.message
    return failure.message


@pytest.mark.parametrize("kind", SOUND)
def test_what_is_sound_opens(tmp_path: Path, kind: str) -> None:
    section, tensors = SOUND[kind]
    with open_checkpoint(save(tmp_path, section, tensors())) as checkpoint:
        assert len(checkpoint.tensors) == 1


@pytest.mark.parametrize(("kind", "damage", "what"), OPENING, ids=map(str, range(len(OPENING))))
def test_parts_that_do_not_fit(
    tmp_path: Path, kind: str, damage: Callable[[Tensors], None], what: str
) -> None:
    section, make = SOUND[kind]
    damage(tensors := make())
    message = refused(save(tmp_path, section, tensors))
    assert message.startswith("model.safetensors: ")
    assert what in message


@pytest.mark.parametrize(("kind", "damage", "what"), READING, ids=map(str, range(len(READING))))
def test_scales_that_are_no_scales(
    tmp_path: Path, kind: str, damage: Callable[[Tensors], None], what: str
) -> None:
    section, make = SOUND[kind]
    damage(tensors := make())
    assert what in refused(save(tmp_path, section, tensors), is_read=True)


def test_a_scale_of_zero_is_fine_where_all_weights_are_zero(tmp_path: Path) -> None:
    tensors = fp8()
    tensors["a.weight"][:128, :128] = 0
    tensors["a.weight_scale_inv"][0, 0] = 0
    with open_checkpoint(save(tmp_path, FP8, tensors)) as checkpoint:
        assert not checkpoint.rows("a.weight", 0, 128)[:, :128].any()


CONFIGS = [
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quantized by bitsandbytes, which is not read"),
    ({"load_in_8bit": True}, "quantized by bitsandbytes, which is not read"),
    ({"quant_method": "hqq"}, "quantized by HQQ, which is not read"),
    ({"quant_method": "fp_quant"}, "quantized by FP-Quant, which is not read"),
    ({"quant_method": "strange\n"}, r"quantized by 'strange\n', which is not read"),
    ({"weights": 4}, "quantized by an unnamed method, which is not read"),
    ({**FP8, "weight_block_size": [128]}, "weight_block_size is [128], and should be two positive numbers"),
    ({**FP8, "weight_block_size": [128, 0]}, "weight_block_size is [128, 0], and should be two positive"),
    ({**FP8, "expert_dtype": "fp4"}, "FP4 in experts and FP8 elsewhere, which is not read"),
    ({**GPTQ, "bits": 3}, "the weights are GPTQ's in 3 bits, which is not read"),
    ({**GPTQ, "checkpoint_format": "marlin"}, "GPTQ's in the layout marlin, which is not read"),
    ({**GPTQ, "group_size": 0}, "group_size is 0, and should be -1 or a positive number"),
    ({**AWQ, "version": "gemv_fast"}, "AWQ's in the layout gemv_fast, which is not read"),
    ({**AWQ, "bits": 8}, "the weights are AWQ's in 8 bits, which is not read"),
    ({**MODELOPT, "quant_algo": "W4A16_AWQ"}, "ModelOpt's W4A16_AWQ, which is not read"),
    ({**compressed(), "sparsity_config": {"format": "sparse-24-bitmask"}}, "sparse (sparse-24-bitmask)"),
    ({**compressed(), "transform_config": {"config_groups": {"a": {}}}}, "the weights are rotated"),
    ({**compressed(), "format": "marlin-24"}, "in the format marlin-24, which is not read"),
    (compressed(strategy="diagonal"), "scales are by diagonal, which is not known"),
    ({**compressed(), "config_groups": {}}, "it has no config_groups"),
]  # fmt: skip


@pytest.mark.parametrize(("section", "what"), CONFIGS, ids=map(str, range(len(CONFIGS))))
def test_configs_that_are_not_read(tmp_path: Path, section: dict[str, Any], what: str) -> None:
    assert what in refused(save(tmp_path, section, packed()))


def test_codes_of_bits_that_are_not_read(tmp_path: Path) -> None:
    assert "packed in 3 bits, which is not read" in refused(save(tmp_path, compressed(num_bits=3), packed()))


def test_a_matrix_in_two_forms(tmp_path: Path) -> None:
    folder = save(tmp_path, GPTQ, {**gptq(), "a.weight": torch.ones(16, 64)})
    assert "a.weight is there in two forms" in refused(folder)


@pytest.mark.parametrize(
    "nest",
    [
        lambda section: {
            "compression_config": {key: section[key] for key in section if key != "quant_method"}
        },
        lambda section: {"compression_config": {"quantization_config": section, "sparsity_config": {}}},
        lambda section: {"text_config": {"quantization_config": section, "dtype": "float16"}},
    ],
    ids=["compression_config", "a section of it", "text_config"],
)
def test_places_in_a_config(tmp_path: Path, nest: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    save(tmp_path, {}, packed())
    config = {"model_type": "any", **nest(compressed())}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.tensors["a.weight"].dtype == ("F16" if "text_config" in config else "BF16")
    left = without_sections(config)
    assert left["model_type"] == "any"
    assert "quant" not in json.dumps(left)
    assert "compression" not in json.dumps(left)


def test_mlx_is_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path, {}, packed())
    (tmp_path / "config.json").write_text(json.dumps({"quantization": {"group_size": 64, "bits": 4}}))
    assert "quantized by MLX, which is not read" in refused(tmp_path)


def test_the_original_model_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path, {"quant_method": "bitsandbytes"}, packed())
    with pytest.raises(Failure) as raised:
        open_checkpoint(folder)
    assert raised.value.hint.startswith("convert from the original weights")
    (folder / "README.md").write_text("---\nbase_model:\n- acme/model\n---\n")
    with pytest.raises(Failure) as raised:
        open_checkpoint(folder)
    assert raised.value.hint == "convert from the original model: acme/model"
