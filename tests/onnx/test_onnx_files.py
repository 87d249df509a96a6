"""What stands in an ONNX artifact: files that every reader takes, planned to the byte, the same each time."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from convert import convert_recipe, plan_recipe
from convert.errors import Failure
from convert.formats import option_models
from convert.formats.onnx.format import FORMAT, Native, browser_deviations
from convert.formats.onnx.graph import DATA_FILE, FLOATS, LARGE_BYTES, LARGE_PAGE_BYTES, PAGE_BYTES
from convert.formats.onnx.network import build
from convert.formats.onnx.options import OnnxOptions
from convert.formats.onnx.weights import Storage
from convert.model.decoder import Attention, Decoder, Dense, Layer, Norm, Rope
from convert.model.source import Model
from convert.recipe import load
from convert.store import read_manifest
from convert.writer import engine
from convert.writer.codecs.plain import Plain
from tests import tiny
from tests.onnx import genai

TINY_QWEN = Path(__file__).parents[2] / "recipes" / "models" / "tiny-qwen"
# Qwen2.5-7B's sizes.
_NORM = Norm(1e-6)
LARGE = Decoder(
    family="qwen2",
    layers=(Layer(Attention(28, 4, 128, Rope(1e6, 128), has_qkv_bias=True), Dense(18944), _NORM, _NORM),)
    * 28,
    hidden_size=3584,
    vocab_size=152064,
    context_length=32768,
    final_norm=_NORM,
)
SETTINGS: dict[str, dict[str, Any]] = {
    "int4": {"precision": "int4", "mixed": False},
    "int4 in blocks of 128 with zero points": {
        "precision": "int4",
        "block_size": 128,
        "symmetric": False,
        "embedding": "int4",
        "mixed": False,
    },
    "int4 and an embedding apart": {"precision": "int4", "embedding": "int8", "mixed": False},
    "int8": {"precision": "int8", "embedding": "int8"},
    "fp16": {"precision": "fp16"},
    "fp16 cuda": {"precision": "fp16", "provider": "cuda"},
    "int4 cuda": {"precision": "int4", "provider": "cuda", "head": "native"},
    "fp32": {"precision": "fp32"},
}


QUICK = ("int4 in blocks of 128 with zero points", "fp16 cuda")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS]


def idle(model: onnx.ModelProto) -> set[str]:
    """Name what is stored, computed or asked for and goes nowhere."""
    graph = model.graph
    entries = [*graph.input, *graph.initializer]
    made = {entry.name for entry in entries}.union(*(node.output for node in graph.node))
    taken = {entry.name for entry in graph.output}.union(*(node.input for node in graph.node))
    return made - taken - {""}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model_type", ["gpt2", "qwen3"])
def test_the_checker_and_plain_onnxruntime_take_it(
    name: str, model_type: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny.Recipe(model_type, spread=0.03)
    folder = tiny.make(tmp_path / "model", recipe)
    path = genai.convert_folder(folder, tmp_path / "out", **SETTINGS[name]) / "model.onnx"
    onnx.checker.check_model(str(path))
    assert idle(onnx.load(path, load_external_data=False)) == set()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert capfd.readouterr() == ("", "")  # onnxruntime warns here of what it has to mend
    feeds: dict[str, Any] = {}
    for entry in session.get_inputs():
        if entry.name.startswith("past"):
            dtype = np.float16 if entry.type == "tensor(float16)" else np.float32
            feeds[entry.name] = np.zeros((2, entry.shape[1], 0, entry.shape[3]), dtype)
        else:
            feeds[entry.name] = np.ones((2, 5), np.int64)
    feeds["input_ids"] = np.arange(10).reshape(2, 5)
    logits = session.run(["logits"], feeds)[0]
    assert logits.shape == (2, 5, tiny.VOCAB_SIZE)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_threads_and_shards_and_places_change_nothing(name: str, tmp_path: Path) -> None:
    one = tiny.make(tmp_path / "one", tiny.Recipe("qwen", {"num_hidden_layers": 2}))
    made = genai.convert_folder(one, tmp_path / "out1", threads=1, **SETTINGS[name])
    two = tiny.make(tmp_path / "elsewhere", tiny.Recipe("qwen", {"num_hidden_layers": 2}, shards=3))
    other = genai.convert_folder(two, tmp_path / "out2", threads=3, **SETTINGS[name])
    names = sorted(path.name for path in made.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert DATA_FILE in names
    for file in names:
        assert (made / file).read_bytes() == (other / file).read_bytes(), file


def places(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Where each tensor of the data file lies: offset and length."""
    found = {}
    for tensor in model.graph.initializer:
        if tensor.external_data:
            place = {entry.key: entry.value for entry in tensor.external_data}
            assert place.pop("location") == DATA_FILE
            found[tensor.name] = int(place["offset"]), int(place["length"])
    return found


@pytest.mark.parametrize("name", ["F32", "BF16"])
def test_files_beyond_two_gigabytes_are_planned_without_a_gap_or_an_overlap(name: Any) -> None:
    storage = Storage("F32", Plain(name), Plain(name), Plain(name), 0)
    model, layout = build(LARGE, storage, "0")
    assert model.ByteSize() < 1 << 20
    assert layout.size_bytes > 7.6e9 * (4 if name == "F32" else 2)
    end = 0
    for offset, length in sorted(places(model).values()):
        page = LARGE_PAGE_BYTES if length >= LARGE_BYTES else PAGE_BYTES
        assert offset == -(-end // page) * page
        end = offset + length
    assert end == layout.size_bytes
    filled = [offset for slot in layout.slots for offset in slot.offsets_bytes]
    assert sorted([*filled, *(offset for offset, _ in layout.fixed)]) == sorted(
        offset for offset, _ in places(model).values()
    )


def test_a_file_beyond_two_gigabytes_opens(tmp_path: Path) -> None:
    """Sparse: what nobody writes takes no room, and reads as zeros."""
    decoder = replace(LARGE, layers=LARGE.layers[:1], is_tied=True)
    storage = Storage("F32", Plain("F32"), Plain("F32"), Plain("F32"), 0)
    model, layout = build(decoder, storage, "0")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with (tmp_path / DATA_FILE).open("wb") as stream:
        stream.truncate(layout.size_bytes)
    assert max(offset for offset, _ in places(model).values()) > 1 << 31
    onnx.checker.check_model(str(tmp_path / "model.onnx"))
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_prepacking", "1")  # mapped, and not copied
    onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    with (tmp_path / DATA_FILE).open("r+b") as stream:
        stream.truncate(layout.size_bytes - 1)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail, match="out of bounds"):
        onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])


def test_tied_heads_share_the_bytes(tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "model", tiny.Recipe("qwen2"))
    shared: tuple[dict[str, Any], ...] = (
        {"precision": "fp16"},
        {"precision": "int4", "embedding": "int4", "mixed": False},
        {"precision": "int4", "head": "native", "mixed": False},
    )
    for number, settings in enumerate(shared):
        path = genai.convert_folder(folder, tmp_path / str(number), **settings) / "model.onnx"
        found = places(onnx.load(path, load_external_data=False))
        assert not any(name.startswith("head") for name in found)


def test_options_name_their_artifacts() -> None:
    options = OnnxOptions.model_validate(
        {"precision": ["int4", "fp16"], "provider": ["cpu", "cuda"]}, strict=False
    )
    assert tuple(options.by_target()) == (
        "onnx-int4-cpu",
        "onnx-fp16-cpu",
        "onnx-int4-cuda",
        "onnx-fp16-cuda",
    )
    assert options.by_target()["onnx-fp16-cuda"] == {"precision": "fp16", "provider": "cuda"}
    assert options.by_target()["onnx-int4-cuda"]["accuracy_level"] == 0
    assert options.by_target()["onnx-int4-cpu"] == {
        "precision": "int4",
        "provider": "cpu",
        "block_size": 32,
        "symmetric": False,
        "accuracy_level": 4,
        "head": "int8",
        "embedding": "int8",
        "mixed": 0.02,
    }
    plain = OnnxOptions.model_validate({"precision": "int4", "mixed": False}, strict=False)
    assert plain.by_target()["onnx-int4-cpu"] == {
        "precision": "int4",
        "provider": "cpu",
        "block_size": 32,
        "symmetric": True,
        "accuracy_level": 4,
        "head": "int4",
        "embedding": "native",
    }


@pytest.mark.parametrize(("embedding", "count"), [("int8", 1), ("native", 0)])
def test_what_browsers_cannot_look_up_is_said(embedding: str, count: int) -> None:
    said = {"precision": "int4", "layout": "transformers.js", "embedding": embedding}
    options = OnnxOptions.model_validate(said, strict=False)
    assert len(browser_deviations(options, next(iter(options.by_target())))) == count


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ("{precision: int5}", "targets.onnx.precision: 'int5' is not known"),
        ("{precision: [int4, int5]}", "targets.onnx.precision[1]: 'int5' is not known"),
        ("{precision: []}", "targets.onnx.precision: is empty"),
        ("{precision: [int4, int4]}", "targets.onnx.precision: int4 twice"),
        ("{precision: int4, block_size: 48}", "targets.onnx.block_size: 48 is not known"),
        ("{precision: fp32, provider: cuda}", "targets.onnx: fp32 for cuda cannot be built"),
        ("{precision: int4, accuracy_level: 5}", "targets.onnx.accuracy_level: 5 is out of bounds"),
        ("{}", "targets.onnx.precision: is missing"),
        ("{precision: fp16, block_size: 64}", "targets.onnx.block_size: is of int4 and int8, and fp16"),
        ("{precision: fp32, accuracy_level: 4}", "targets.onnx.accuracy_level: is of int4 and int8"),
        ("{precision: [fp16, fp32], head: int8}", "head: is of int4 and int8, and fp16 and fp32"),
        ("{precision: int5, symmetric: true}", "targets.onnx.precision: 'int5' is not known"),
    ],
)
def test_wrong_options_are_refused(settings: str, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"model: a/b\ntargets:\n  onnx: {settings}\n")
    with pytest.raises(Failure) as caught:
        load(path, option_models())
    assert fault in str(caught.value)


def test_heads_that_the_runtime_cannot_turn_are_refused() -> None:
    for change, what in (({"head_size": 12}, "heads of 12"), ({"rope": Rope(1e4, 24)}, "over 24 dimensions")):
        (said,) = FORMAT.limits(LARGE.with_mixers(**change))
        assert what in said
    assert not FORMAT.limits(LARGE)


def test_a_recipe_makes_gguf_and_onnx_in_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "both.yaml"
    path.write_text(
        f"model: {TINY_QWEN}\ntargets:\n  gguf: {{quants: [Q8_0]}}\n"
        "  onnx: {precision: int4, block_size: 32}\n"
    )
    recipe = load(path, option_models())
    planned = plan_recipe(recipe, out=tmp_path / "out", offline=True)
    passes: list[int] = []
    run = engine.run

    def counted(*args: Any, **more: Any) -> None:
        passes.append(len(args))
        run(*args, **more)

    monkeypatch.setattr(engine, "run", counted)
    made = convert_recipe(recipe, out=tmp_path / "out", offline=True)
    assert len(passes) == 1
    for artifact, foreseen in zip(made.artifacts, planned.targets, strict=True):
        sizes = {entry.path: entry.size_bytes for entry in read_manifest(artifact.folder).files}
        for file in foreseen.files:  # how many matrices get 8 bits is measured
            slack = 0.1 if file.path == "model.onnx.data" else 0
            assert sizes[file.path] == pytest.approx(file.size_bytes, rel=slack, abs=0)
    folder = made.artifacts[1].folder
    assert folder.name == "onnx-int4-cpu"
    manifest = read_manifest(folder)
    assert manifest.format == "onnx"
    assert manifest.tensors["embed.weight"] == "int8_b128"
    stored = [name for place, name in manifest.tensors.items() if ".mlp." in place]
    assert 0 < stored.count("int4_b32_zp") < len(stored)
    assert {"onnx", "numpy", "modelwright"} <= manifest.tools.keys()
    config = json.loads((folder / "genai_config.json").read_text())
    assert config["model"]["context_length"] == 1024
    added = json.loads((folder / "tokenizer.json").read_text("utf-8"))["added_tokens"]
    ends = [token["id"] for token in added if token["content"] in ("<|endoftext|>", "<|im_end|>")]
    assert len(ends) == 2
    assert config["model"]["eos_token_id"] == sorted(ends)
    assert config["search"]["do_sample"] is False
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert "<|im_start|>" in settings["chat_template"]


@pytest.mark.parametrize(
    ("dtype", "declared", "stored"),
    [
        ("BF16", "bfloat16", "BF16"),
        ("F16", None, "F16"),
        ("F32", "bfloat16", "F32"),
        ("BF16", "float32", "BF16"),
    ],
)
def test_native_is_what_the_weights_are_whatever_the_config_says(
    dtype: str, declared: str | None, stored: str, tmp_path: Path
) -> None:
    folder = tiny.make(tmp_path / "model", tiny.Recipe("qwen2", {"torch_dtype": declared}, dtype=dtype))
    model = onnx.load(
        genai.convert_folder(folder, tmp_path / "out", precision="int8") / "model.onnx",
        load_external_data=False,
    )
    (table,) = (tensor for tensor in model.graph.initializer if tensor.name == "embed.weight")
    assert table.data_type == FLOATS[stored]


def test_native_rounds_neither_table_where_they_differ(tmp_path: Path) -> None:
    recipe = tiny.Recipe("llama", {"num_hidden_layers": 1})
    folder = tiny.make(tmp_path / "model", recipe)
    made = tiny.tensors(recipe)
    head = {"lm_head.weight": made.pop("lm_head.weight")}
    tiny.write_safetensors(folder / "model.safetensors", made, "BF16")
    tiny.write_safetensors(folder / "head.safetensors", head, "F32")
    index = dict.fromkeys(made, "model.safetensors") | dict.fromkeys(head, "head.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}), "utf-8")
    artifact = genai.convert_folder(folder, tmp_path / "out", precision="int8", head="native")
    model = onnx.load(artifact / "model.onnx")
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert np.array_equal(stored["head.weight"], head["lm_head.weight"])


def test_what_is_native_but_for_rounding_is_said(tmp_path: Path) -> None:
    folder = tiny.make_blank(tmp_path, tiny.Recipe("qwen2"))
    model = Model("Tiny", None, LARGE, genai.NUMBERS, folder)
    options = OnnxOptions.model_validate(
        {"precision": ["int4", "fp16"], "provider": ["cpu", "cuda"], "head": "native"}, strict=False
    )
    for target in options.by_target():
        for prepared in (Native("BF16"), Native("F16")):
            said = {each.subject for each in FORMAT.lay_out(model, options, target, prepared).deviations}
            is_rounded = target == "onnx-int4-cuda" and prepared.native == "BF16"
            assert said >= {"embedding", "head"} if is_rounded else not said & {"embedding", "head"}


GREEDY = {"do_sample": False, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0}
SAMPLED = {"do_sample": True, "temperature": 0, "top_k": 20, "top_p": 0.8, "repetition_penalty": 1.05}
SEARCHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "said": (SAMPLED, SAMPLED),
    "more than there are": ({"top_k": 5000}, {"top_k": tiny.VOCAB_SIZE}),
    "less than none": ({"top_k": -1, "top_p": -0.5, "temperature": -1.0}, {}),
    "more than all": ({"top_p": 1.5}, {}),
    "no number": ({"top_k": "50", "top_p": [0.8], "temperature": float("nan")}, {}),
    "no end": ({"temperature": float("inf"), "repetition_penalty": float("-inf")}, {}),
    "of another kind": ({"top_k": 2.5, "temperature": True, "do_sample": 1, "top_p": None}, {}),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_the_search_is_the_source_s_where_it_can_be_meant(name: str, tmp_path: Path) -> None:
    said, taken = SEARCHES[name]
    folder = tiny.make(tmp_path / "model", tiny.Recipe("qwen2", {"num_hidden_layers": 1}))
    artifact = genai.convert_folder(folder, tmp_path / "out", generation=said, precision="fp16")
    found = json.loads((artifact / "genai_config.json").read_text())["search"]
    assert {key: found[key] for key in GREEDY} == {**GREEDY, **taken}
    genai.logits(artifact, [[3, 4]])  # onnxruntime-genai opens nothing that it cannot search by


def test_without_onnx_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.make(tmp_path / "model", tiny.Recipe("qwen2"))
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx" else found(name))
    with pytest.raises(Failure) as caught:
        genai.convert_folder(folder, tmp_path / "out", precision="int4")
    assert caught.value.hint == "pip install 'modelwright[onnx]'"
