"""A recipe with an adapter: artifacts of the merged model, verified against the model with its adapter."""

from __future__ import annotations

import json
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from convert import convert_recipe, load_recipe, plan_recipe, verify_recipe
from convert.checkpoint import open_checkpoint
from convert.errors import UsageFailure
from convert.formats.hf.tensors import is_canonical, stored_tensors
from convert.model.binding import bind
from convert.model.source import Weights
from convert.pipeline import FIND, fold, start, start_verification
from convert.pipeline.adapter import merge
from convert.pipeline.stage.describe import describe
from convert.pipeline.stage.download import download
from convert.source import digest_of_all
from convert.store import read_manifest
from tests import tiny
from tests.adapter import peft_models
from tests.hf import describing
from tests.hub.server import HubServer
from tests.verify import planting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 288}
LLAMA = {**SMALL, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
GPT2 = {"n_layer": 2, "n_embd": 64, "vocab_size": 288, "n_positions": 512}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"]}
EXPERTS = {
    "r": 2,
    "lora_alpha": 8,
    "target_modules": ["q_proj"],
    "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
    "alpha_pattern": {"experts.down_proj": 16},
}
BASE, ADAPTER = "Owner/Base-1B", "Tuner/Poet-LoRA"
VERIFY = "verify: {scenarios: [pack.yaml], tokens: 256, gates: {smoke_drop: null}}\n"
IDS = torch.tensor([[1, 40, 90, 7, 250, 33, 5, 61]])


def make(place: Path, model_type: str, changes: dict[str, Any], **settings: Any) -> Any:
    """Write a model and an adapter for it; return the model with the adapter on it."""
    folder = describing.make(place / "model", tiny.Recipe(model_type, changes, dtype="F32", spread=0.08))
    with warnings.catch_warnings():
        peft_models.quiet()
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        base.config.name_or_path = base.name_or_path = BASE
        adapted = peft_models.train(base, spread=0.1, **settings)
        adapted.save_pretrained(place / "adapter")
    return adapted


def logits(model: Any) -> Any:
    with torch.inference_mode():
        return model(IDS).logits[0]


def write(place: Path, targets: str, model: str = "./model", adapter: str = "./adapter") -> Path:
    path = place / "poet.yaml"
    planting.write_pack(place / "pack.yaml")
    text = f"model: {model}\nadapter: {adapter}\ntargets:\n  {targets}\n{VERIFY}"
    path.write_text(text, "utf-8")
    return path


def convert(path: Path, **options: Any) -> Path:
    out = path.parent / "artifacts"
    convert_recipe(load_recipe(path), out=out, threads=1, **options)
    return out / path.stem


CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], bool]] = {
    "llama": ("llama", LLAMA, LORA, False),
    "gpt2": ("gpt2", GPT2, {"target_modules": ["c_attn", "c_fc"], "use_dora": True}, True),
    "a tied head trained apart": (
        "llama",
        {**LLAMA, "tie_word_embeddings": True},
        {**LORA, "modules_to_save": ["lm_head"]},
        False,
    ),
    "a tied embedding trained apart": (
        "llama",
        {**LLAMA, "tie_word_embeddings": True},
        {**LORA, "target_modules": ["embed_tokens", "q_proj"]},
        False,
    ),
    "both of a tied pair": (
        "gpt2",
        GPT2,
        {"target_modules": ["c_proj"], "modules_to_save": ["wte", "lm_head"]},
        False,
    ),
    "kept tied": (
        "llama",
        {**LLAMA, "tie_word_embeddings": True},
        {**LORA, "modules_to_save": ["embed_tokens"], "ensure_weight_tying": True},
        True,
    ),
    "kept tied by narrow matrices": (
        "llama",
        {**LLAMA, "tie_word_embeddings": True},
        {**LORA, "target_modules": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
        True,
    ),
    "experts, each apart on disk": ("qwen3_moe", {}, EXPERTS, False),
    "experts, stacked and turned on disk": ("gpt_oss", {}, EXPERTS, False),
    "tokens of a tied pair": (
        "llama",
        {**LLAMA, "tie_word_embeddings": True},
        {**LORA, "trainable_token_indices": [5, 7, 40]},
        True,
    ),
}


# One of each kind of merging; the others are combinations.
QUICK = ("llama", "a tied head trained apart", "kept tied", "experts, stacked and turned on disk")


@pytest.mark.parametrize(
    "case",
    [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES],
)
def test_the_artifact_is_the_model_with_its_adapter(case: str, tmp_path: Path) -> None:
    model_type, changes, settings, is_tied = CASES[case]
    wanted = logits(make(tmp_path, model_type, changes, **settings))
    folder = convert(write(tmp_path, "hf: {dtype: fp32}")) / "hf"
    with warnings.catch_warnings():
        peft_models.quiet()
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.testing.assert_close(logits(model), wanted, rtol=1e-4, atol=1e-4)
    config = json.loads((folder / "config.json").read_text())
    assert config.get("tie_word_embeddings", model_type == "gpt2") is is_tied
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    assert not torch.allclose(logits(base), wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_a_transposed_model_with_an_adapter_reads_a_calibration_text(tmp_path: Path) -> None:
    make(tmp_path, "gpt2", GPT2, target_modules=["c_attn"])
    (tmp_path / "text.txt").write_text("The solar system has eight planets. " * 40, "utf-8")
    path = write(tmp_path, "gguf: {quants: [Q4_0], imatrix: calibration}")
    path.write_text(path.read_text() + "calibration: {text: text.txt, samples: 2, length: 32}\n", "utf-8")
    assert (convert(path) / "gguf-Q4_0" / "manifest.json").is_file()


def test_bytes_are_those_of_the_merged_model(tmp_path: Path) -> None:
    """What another merged differs in the last bits; rounded to 8 bits, hardly any differ."""
    adapted = make(tmp_path, "llama", LLAMA, **LORA)
    merged = convert(write(tmp_path, "gguf: {quants: [Q8_0]}"))
    (tmp_path / "model").rename(tmp_path / "base")
    with warnings.catch_warnings():
        peft_models.quiet()
        adapted.merge_and_unload().save_pretrained(tmp_path / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "base" / name, tmp_path / "model")
    path = tmp_path / "peft.yaml"
    path.write_text("model: ./model\ntargets: {gguf: {quants: [Q8_0]}}\n")
    by_peft = convert(path)
    ours, theirs = (
        {
            each.name: each
            for each in gguf.GGUFReader(folder / "gguf-Q8_0" / f"{folder.name}-Q8_0.gguf").tensors
        }
        for folder in (merged, by_peft)
    )
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert np.mean(tensor.data != theirs[name].data) < 1e-3, name


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own for what is cached."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "notes"))
    return tmp_path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


CARD = b"---\nlicense: cc-by-4.0\nbase_model: Owner/Base-1B\n---\n# Poet\n"
BASE_CARD = b"---\nlicense: apache-2.0\nlanguage: [en]\n---\n# Base\n"


def share(hub: HubServer, place: Path) -> str:
    """Put a model and its adapter on a Hub; return the adapter's commit."""
    model = {path.name: path.read_bytes() for path in (place / "model").iterdir()}
    hub.add(BASE, {**model, "README.md": BASE_CARD, "LICENSE": b"of the base"})
    adapter = {path.name: path.read_bytes() for path in (place / "adapter").iterdir()}
    repo = hub.add(
        ADAPTER, {**adapter, "README.md": CARD, "LICENSE": b"of the adapter", "optimizer.pt": b"no"}
    )
    return next(iter(repo.commits))


def test_from_a_hub_as_from_folders(hub: HubServer, home: Path) -> None:
    make(home, "llama", LLAMA, **LORA)
    commit = share(hub, home)
    path = write(home, "gguf: {quants: [Q8_0]}", BASE, f"{{repo: {ADAPTER}, revision: {commit}}}")
    recipe = load_recipe(path)
    said: list[str] = []
    plan = plan_recipe(recipe, out=home / "artifacts", remark=said.append)
    assert (plan.model, plan.adapter, plan.adapter_commit) == (BASE, ADAPTER, commit)
    assert not said
    assert not hub.bodies("model.safetensors"), "a plan downloads no weights of the model"
    folder = convert(path) / "gguf-Q8_0"
    assert not hub.bodies("optimizer.pt")
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["source"]["repo"] == BASE
    record = manifest["adapter"]
    assert (record["repo"], record["commit"]) == (ADAPTER, commit)
    assert (record["base"], record["license"], manifest["license"]) == (BASE, "cc-by-4.0", "apache-2.0")
    assert {"adapter_config.json", "adapter_model.safetensors"} < {file["path"] for file in record["files"]}
    assert (folder / "LICENSE").read_bytes() == b"of the base"
    assert (folder / "adapter-LICENSE").read_bytes() == b"of the adapter"
    fields = {
        key: field.contents() for key, field in gguf.GGUFReader(folder / "Poet-LoRA-Q8_0.gguf").fields.items()
    }
    assert fields["general.name"] == "Poet LoRA"
    assert fields["general.base_model.0.repo_url"] == f"https://huggingface.co/{BASE}"
    assert fields["general.source.repo_url"] == f"https://huggingface.co/{ADAPTER}"

    local = convert(write(home, "gguf: {quants: [Q8_0]}")) / "gguf-Q8_0"
    ours, theirs = (
        {each.name: each.data.tobytes() for each in gguf.GGUFReader(next(place.glob("*.gguf"))).tensors}
        for place in (folder, local)
    )
    assert ours == theirs


def test_another_adapter_is_another_artifact(home: Path) -> None:
    make(home, "llama", LLAMA, **LORA)
    path = write(home, "gguf: {quants: [Q8_0]}")

    def status() -> str:
        done = convert_recipe(load_recipe(path), out=home / "artifacts", threads=1)
        return done.artifacts[0].status

    assert [status(), status()] == ["built", "up to date"]
    file = home / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "lora_alpha": 9}))
    assert [status(), status()] == ["built", "up to date"]
    path.write_text(path.read_text().replace("adapter: ./adapter\n", ""))
    assert status() == "built"
    assert "adapter" not in json.loads((home / "artifacts/poet/gguf-Q8_0/manifest.json").read_text())


def test_an_artifact_alone_names_what_it_is_compared_with(hub: HubServer, home: Path) -> None:
    make(home, "llama", LLAMA, **LORA)
    commit = share(hub, home)
    folder = convert(write(home, "gguf: {quants: [Q8_0]}", BASE, ADAPTER)) / "gguf-Q8_0"
    trial = fold(start_verification([str(folder)], {}), (download,))
    assert (trial.files.repo, trial.files.commit) == (BASE, next(iter(hub.repos[BASE].commits)))
    assert trial.adapter is not None
    assert (trial.adapter.repo, trial.adapter.commit) == (ADAPTER, commit)
    # A person who names the source names all of it.
    assert start_verification([str(folder)], {}, source=str(home / "model")).adapter_listing is None

    local = convert(write(home, "gguf: {quants: [Q8_0]}", BASE)) / "gguf-Q8_0"
    with pytest.raises(UsageFailure, match="an adapter from a local folder"):
        start_verification([str(local)], {})


def test_no_tool_is_fed_the_base_in_place_of_the_merged_model(tmp_path: Path) -> None:
    """GPTQ reads a canonical checkpoint where it is; the files of a base are not the merged model's."""
    make(tmp_path, "llama", LLAMA, **LORA)
    run = fold(start(load_recipe(write(tmp_path, "hf: {}")), {"out": tmp_path / "out"}), (*FIND, describe))
    with open_checkpoint(tmp_path / "model") as base, merge(base, run) as merged:
        binding = bind(run.model.decoder, run.family.naming, base.tensors)
        stored = stored_tensors(run.model.decoder)
        assert is_canonical(stored, Weights(base, binding, is_canonical=True))
        assert not is_canonical(stored, Weights(merged, binding, is_canonical=True))


@pytest.mark.parametrize(
    ("model_type", "changes", "settings"),
    [
        pytest.param("llama", LLAMA, {**LORA, "use_dora": True}, marks=pytest.mark.exhaustive, id="llama"),
        pytest.param("gpt2", GPT2, {"target_modules": ["c_attn", "c_proj"]}, id="gpt2"),
    ],
)
@pytest.mark.slow
def test_it_is_verified_against_the_model_with_the_adapter_on_it(
    model_type: str, changes: dict[str, Any], settings: dict[str, Any], home: Path
) -> None:
    make(home, model_type, changes, **settings)
    path = write(home, "gguf: {quants: [F32]}")
    convert(path)
    report = verify_recipe(load_recipe(path), out=home / "artifacts", threads=1)
    found = report.artifacts[0].quality
    assert found is not None
    assert found.kl_mean < 1e-4
    assert found.top1 > 0.99
    assert report.source.adapter == "a local folder"
    # As publishing compares them.
    assert report.source.digest == digest_of_all(read_manifest(home / "artifacts/poet/gguf-F32").read_files)
    assert report.source.opened is not None
    assert report.source.opened.notes["adapter"].startswith("put on by PEFT")
    if model_type == "llama":
        return
    # Without it, the artifact is another model than its source.
    path.write_text(path.read_text().replace("adapter: ./adapter\n", ""))
    report = verify_recipe(load_recipe(path), out=home / "artifacts", threads=1)
    assert (found := report.artifacts[0].quality) is not None
    assert found.kl_mean > 1e-2
