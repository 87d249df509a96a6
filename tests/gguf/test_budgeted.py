"""A type for each tensor by what it loses, under a budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from tokenizers import ByteLevelBPETokenizer

from convert.checkpoint import open_checkpoint
from convert.errors import Failure
from convert.formats.gguf.budgeted import measure_errors
from convert.formats.gguf.options import GgufOptions
from convert.formats.gguf.tensors import file_tensors
from convert.model.binding import bind
from convert.model.config import read_config
from convert.model.families import describe
from convert.model.source import Weights
from convert.progress import Silent
from tests import tiny
from tests.gguf import oracle
from tests.hf import describing
from verify.examination import Examination
from verify.task import Plan, Silence, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

TINY_GPT2 = Path(__file__).parents[2] / "recipes" / "models" / "tiny-gpt2"
CHANGES = {"num_hidden_layers": 2}


def _convert(
    place: Path, source: Path, said: dict[str, Any], threads: int = 1
) -> tuple[Path, dict[str, Any]]:
    """Convert by a recipe; give the file and the manifest."""
    place.mkdir(exist_ok=True)
    artifacts = describing.convert_to(place, source, f"gguf: {json.dumps(said)}", threads=threads)
    (path,) = artifacts.rglob("*.gguf")
    return path, json.loads((path.parent / "manifest.json").read_text("utf-8"))


def test_a_budget_of_bits_is_kept_and_said(tmp_path: Path) -> None:
    source = describing.make(tmp_path / "source", tiny.Recipe("llama", CHANGES))
    made = {bpw: _convert(tmp_path / str(bpw), source, {"bpw": bpw}) for bpw in (3.2, 5)}
    sizes = []
    for bpw, (path, manifest) in made.items():
        found = oracle.tensors(path)
        bits = 8 * sum(len(data) for _, _, data in found.values())
        weights = sum(int(np.prod(shape)) for _, shape, _ in found.values())
        assert 0.9 * bpw < bits / weights <= bpw
        assert manifest["options"]["budget"]["bits_per_weight"] == pytest.approx(bits / weights, abs=1e-3)
        assert {name: type_ for name, (type_, _, _) in found.items()} == manifest["tensors"]
        assert any("chosen under the budget" in str(each) for each in manifest["deviations"])
        examination = Examination(Subject("some", path.parent), Plan((), "", ""), Silence())
        examination.look_at_files()
        assert examination.result().chosen_types == manifest["tensors"]  # which the page draws
        sizes.append(path.stat().st_size)
    assert sizes[0] < sizes[1]
    logits = oracle.logits(made[5][0], range(3, 40))
    assert np.isfinite(logits).all()


def test_a_budget_of_bytes_holds_for_all_files_and_headers(tmp_path: Path) -> None:
    source = describing.make(tmp_path / "source", tiny.Recipe("llama", CHANGES))
    artifacts = describing.convert_to(tmp_path, source, "gguf: {size: 1.2M, split_max_size: 0.5M}")
    sizes = [path.stat().st_size for path in artifacts.rglob("*.gguf")]
    assert len(sizes) > 1
    assert 1_100_000 < sum(sizes) <= 1_200_000


def test_the_measured_error_is_that_of_the_rows(tmp_path: Path) -> None:
    """By gguf-py's own reading of what ggml wrote, over all rows."""
    folder = tiny.make(tmp_path / "model", tiny.Recipe("llama", CHANGES))
    family, decoder = describe(read_config(folder))
    names = ("blk.1.ffn_up.weight", "blk.0.attn_q.weight")
    listed = [each for each in file_tensors(decoder) if each.name in names]
    with open_checkpoint(folder) as checkpoint:
        weights = Weights(checkpoint, bind(decoder, family.naming, checkpoint.tensors))
        budgets = GgufOptions(bpw=5.0).budgets.values()
        found = measure_errors(listed, None, budgets, weights, Silent()).errors
    plain = oracle.tensors(oracle.convert_folder(folder, tmp_path, ["F32"])["F32"][0])
    for tensor in listed:
        _, shape, data = plain[tensor.name]
        rows = np.frombuffer(data, np.float32).reshape(shape[::-1])
        for type_name in ("Q3_K", "Q8_0"):
            type_ = gguf.GGMLQuantizationType[type_name]
            (path,) = oracle.convert_folder(
                folder, tmp_path / type_name, ["Q4_K_M"], wishes={"tensor_types": {tensor.name: type_name}}
            )["Q4_K_M"]
            read = gguf.dequantize(np.frombuffer(oracle.tensors(path)[tensor.name][2], np.uint8), type_)
            error = np.square(read.reshape(rows.shape) - rows).sum() / np.square(rows).sum()
            assert found[tensor.name][type_name] == pytest.approx(float(error), rel=0.05)


def test_weights_on_a_lattice_take_its_type(tmp_path: Path) -> None:
    """They lose nothing by it, however large the budget."""
    source = describing.make(tmp_path / "source", tiny.Recipe("llama", CHANGES, dtype="F32"))
    path = source / "model.safetensors"
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    name = "model.layers.1.mlp.up_proj.weight"
    first, end = (start + offset for offset in header[name]["data_offsets"])
    codes = np.random.default_rng(5).integers(-8, 8, (end - first) // 4).astype(np.float32)
    codes[::32] = -8
    data[first:end] = (codes * np.float32(0.03125)).tobytes()
    path.write_bytes(data)
    _, manifest = _convert(tmp_path, source, {"bpw": 7})
    assert manifest["tensors"]["blk.1.ffn_up.weight"] == "Q4_0"
    assert manifest["tensors"]["blk.0.ffn_up.weight"] != "Q4_0"


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("{bpw: 1.5}", "gguf-1.5bpw: .* are too few: the coarsest types take"),
        ("{bpw: 4, tensor_types: {attn_w: Q8_0}}", "no tensor that is quantized has 'attn_w'"),
        ("{bpw: 4, pure: true}", "pure: a budget chooses a type for each tensor"),
        ("{}", "asks for nothing"),
    ],
)
def test_budgets_that_cannot_be_kept_are_refused(said: str, what: str, tmp_path: Path) -> None:
    source = describing.make(tmp_path / "source", tiny.Recipe("llama", CHANGES))
    with pytest.raises(Failure, match=what):
        describing.convert_to(tmp_path, source, f"gguf: {said}")


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["qwen3_moe", "gpt2"])
def test_the_same_source_gives_the_same_choice(model_type: str, tmp_path: Path) -> None:
    source = describing.make(tmp_path / "source", tiny.Recipe(model_type))
    one, other = (_convert(tmp_path / str(threads), source, {"bpw": 4.6}, threads)[0] for threads in (1, 3))
    assert one.read_bytes() == other.read_bytes()
    assert np.isfinite(oracle.logits(one, range(3, 40))).all()


@pytest.mark.slow
def test_it_loses_less_than_a_mixture_of_the_same_size(tmp_path: Path) -> None:
    stock = describing.convert_to(tmp_path, TINY_GPT2, "gguf: {quants: [F32, Q4_K_M]}")
    (plain,), (mixture,) = (list((stock / f"gguf-{name}").glob("*.gguf")) for name in ("F32", "Q4_K_M"))
    size_bytes = mixture.stat().st_size
    own, _ = _convert(tmp_path / "own", TINY_GPT2, {"size": f"{size_bytes // 1000 / 1000}M"})
    assert own.stat().st_size <= size_bytes
    text = (TINY_GPT2.parent / "tiny-searchqa-en.yaml").read_text("utf-8")
    vocabulary = ByteLevelBPETokenizer(*(str(TINY_GPT2 / name) for name in ("vocab.json", "merges.txt")))
    tokens = vocabulary.encode(text).ids[:240]
    asked, ours, theirs = (_logprobs(path, tokens) for path in (plain, own, mixture))
    assert _divergence(asked, ours) < 0.6 * _divergence(asked, theirs)


def _logprobs(path: Path, tokens: list[int]) -> NDArray[np.float64]:
    found = oracle.logits(path, tokens).astype(np.float64)
    found -= found.max(axis=-1, keepdims=True)
    found -= np.log(np.exp(found).sum(axis=-1, keepdims=True))
    return found


def _divergence(asked: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    return float((np.exp(asked) * (asked - found)).sum(axis=-1).mean())


def test_wishes_hold_under_a_budget(tmp_path: Path) -> None:
    source = describing.make(tmp_path / "source", tiny.Recipe("llama", CHANGES))
    _, manifest = _convert(tmp_path, source, {"bpw": 5, "tensor_types": {"attn_v": "F16"}})
    assert {type_ for name, type_ in manifest["tensors"].items() if "attn_v" in name} == {"F16"}
