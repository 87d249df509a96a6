"""Each runtime recognizes its own folders, and a folder that none opens is refused by what it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from convert.errors import Failure
from convert.formats import option_models
from verify.runtimes import RuntimeSettings, find_runtime, runtime_names, runtimes_for
from verify.runtimes._options import read_options

if TYPE_CHECKING:
    from pathlib import Path

RUNTIME_FORMATS = {
    "compressed_tensors": ("compressed-tensors",),
    "ctranslate2": ("ctranslate2",),
    "gptqmodel": ("gptq", "awq"),
    "llama_cpp": ("gguf",),
    "mlx_lm": ("mlx",),
    "onnxruntime_genai": ("onnx",),
    "openai_http": (),
    "openvino_genai": ("gguf",),
    "served": (),
    "transformers": ("hf",),
    "onnxruntime": ("onnx",),
    "transformers_js": ("onnx",),
}


def checkpoint(folder: Path, config: Any, metadata: dict[str, str] | None = None) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    header = json.dumps({"__metadata__": metadata} if metadata is not None else {}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def test_each_runtime_declares_the_formats_it_opens() -> None:
    assert {name: find_runtime(name).FORMATS for name in runtime_names()} == RUNTIME_FORMATS
    declared = [form for forms in RUNTIME_FORMATS.values() for form in forms]
    assert set(declared) == set(option_models())


@pytest.mark.parametrize(
    ("config", "metadata", "runtime"),
    [
        ({}, None, "transformers"),
        ({}, {"format": "pt"}, "transformers"),
        ({"quantization_config": None}, {}, "transformers"),
        ({"quantization_config": {"quant_method": "gptq"}}, {"format": "pt"}, "gptqmodel"),
        ({"quantization_config": {"quant_method": "awq"}}, None, "gptqmodel"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, None, "compressed_tensors"),
    ],
)
def test_a_checkpoint_goes_to_one_runtime(
    config: dict[str, Any], metadata: dict[str, str] | None, runtime: str, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path / "model", {"model_type": "llama", **config}, metadata)
    assert runtimes_for(folder) == (runtime,)


@pytest.mark.parametrize(
    ("config", "metadata", "said"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, None, "quantized by bitsandbytes: no"),
        ({"quantization_config": {"load_in_4bit": True}}, None, "quantized by an unnamed method: no"),
        ({"quantization_config": {}}, None, "quantized by an unnamed method: no"),
        ({"quantization_config": "int4"}, None, "quantized by an unnamed method: no"),
        ({"compression_config": {"format": "int-quantized"}}, None, "quantized by compressed-tensors: no"),
        ({}, {"format": "flax"}, "in the format 'flax': no runtime here opens it"),
    ],
)
def test_a_checkpoint_that_no_runtime_opens_is_refused_by_what_it_is(
    config: dict[str, Any], metadata: dict[str, str] | None, said: str, tmp_path: Path
) -> None:
    folder = checkpoint(tmp_path / "model", {"model_type": "llama", **config}, metadata)
    with pytest.raises(Failure, match=said):
        runtimes_for(folder)


def test_a_folder_of_another_kind_suits_nobody_by_chance(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()  # without a config
    (tmp_path / "model.onnx").touch()  # without onnxruntime-genai's settings
    (tmp_path / "weights.gguf.part").touch()
    with pytest.raises(Failure, match="nothing here that any runtime opens"):
        runtimes_for(tmp_path)
    folder = checkpoint(tmp_path / "damaged", {"quantization_config": {"quant_method": "gptq"}})
    (folder / "model.safetensors").unlink()
    with pytest.raises(Failure, match="nothing here that any runtime opens"):
        runtimes_for(folder)


def test_options_are_read_by_their_table() -> None:
    table: dict[str, Any] = {
        "kind": ("a", "b"),
        "name": None,
        "count": 1,
        "share": 0.5,
        "extra": {},
        "place": (None, "x"),
    }

    def read(**options: Any) -> dict[str, Any]:
        return read_options("it", RuntimeSettings(options=options), table)

    usual: dict[str, Any] = {"kind": "a", "name": None, "count": 1, "share": 0.5, "extra": {}, "place": None}
    assert read() == usual
    given = {"kind": "b", "name": 7, "count": 2, "share": 1, "extra": {"k": 1}, "place": "x"}
    assert read(**given) == given | {"name": "7"}
    for options, said in (
        ({"kind": "c"}, "it: kind 'c' is none of a, b"),
        ({"place": "y"}, "it: place 'y' is none of x"),
        ({"count": "2"}, "it: count '2' is not a whole number"),
        ({"count": True}, "it: count True is not a whole number"),
        ({"share": "x"}, "it: share 'x' is not a number"),
        ({"extra": []}, r"it: extra \[\] is not an object, as in JSON"),
        ({"speed": 1, "age": 2}, "it: no such option: age, speed"),
    ):
        with pytest.raises(Failure, match=said):
            read(**options)
