"""Multimodal models as Transformers saves them: each artifact answers as the whole model does."""

from __future__ import annotations

import json
import shutil
from html import unescape
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from convert import convert_recipe, load_recipe, verify_recipe
from convert.errors import Failure
from convert.model.config import Config
from convert.model.families import family, find_family, supported
from convert.pipeline import tied
from convert.store import read_manifest
from tests import tiny
from tests.gguf import oracle
from tests.hf.describing import convert_to
from tests.onnx import genai
from tests.pipeline.multimodal import MODELS, TEMPLATE, TOKENS, logits, make
from tests.publish_card.cards import Artifacts
from tests.verify import planting
from tests.verify.opening import logits as asked
from tests.verify.opening import opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUICK = ("gemma3", "mistral3")
SLOW = pytest.mark.slow
# Of each kind of tower and of layout one; `make test-exhaustive` runs all.
SAMPLE = ("gemma3-newer", "gemma4", "qwen2_5_vl-older", "qwen3_5_moe", "llava")
NAMES = [
    pytest.param(
        name, marks=() if name in QUICK else SLOW if name in SAMPLE else (SLOW, pytest.mark.exhaustive)
    )
    for name in MODELS
]
ONNX = set(tiny.rendered("onnx"))
# Keys of a multimodal model's config that a text decoder has no use for.
OUTER = (
    "text_config",
    "vision_config",
    "audio_config",
    "image_token_id",
    "image_token_index",
    "projector_hidden_act",
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Make each of them once."""
    root = tmp_path_factory.mktemp("multimodal")
    return lambda name: root / name if (root / name).is_dir() else make(root / name, name)


@pytest.mark.parametrize("name", NAMES)
def test_each_format_answers_as_the_whole_model_does(
    name: str, sources: Callable[[str], Path], tmp_path: Path
) -> None:
    source, whole = sources(name), MODELS[name]
    wanted = logits(source)
    more = "\n  onnx: {precision: fp32}" if whole.text in ONNX else ""
    out = convert_to(tmp_path, source, "hf: {}\n  gguf: {quants: [F32]}" + more)
    (file,) = (out / "gguf-F32").glob("*.gguf")

    model, found = AutoModelForCausalLM.from_pretrained(
        out / "hf", dtype=torch.float32, output_loading_info=True
    )
    assert not any(found.values()), found
    with torch.no_grad():
        answered = {"hf": model.eval()(torch.tensor([TOKENS])).logits[0].numpy()}
    answered["gguf-F32"] = oracle.logits(file, TOKENS)
    if more:
        answered["onnx-fp32-cpu"] = genai.logits(out / "onnx-fp32-cpu", [TOKENS])
    for target, given in answered.items():
        tolerance = {"hf": 0, "gguf-F32": 5e-3, "onnx-fp32-cpu": 1e-4}[target]
        assert np.abs(given - wanted).max() <= tolerance * np.abs(wanted).max(), target
        why = "left out, as it belongs to the "
        deviations = [each for each in read_manifest(out / target).deviations if each.why.startswith(why)]
        assert {each.subject for each in deviations} == set(whole.parts), target
        assert {each.why.removeprefix(why) for each in deviations} == {whole.tower}, target


@pytest.mark.parametrize("name", NAMES)
def test_the_checkpoint_is_of_the_text_class(
    name: str, sources: Callable[[str], Path], tmp_path: Path
) -> None:
    source, whole = sources(name), MODELS[name]
    out = convert_to(tmp_path, source, "hf: {}") / "hf"
    config, said = (json.loads((folder / "config.json").read_text("utf-8")) for folder in (out, source))
    inner = said.get("text_config", said)
    assert config["model_type"] == tiny.described(whole.text).family
    assert config["architectures"] == list(family(config["model_type"]).classes[:1])
    assert config["torch_dtype"] == "float32"
    assert not [key for key in OUTER if key in config]
    for key in ("eos_token_id", "bos_token_id", "vocab_size", "max_position_embeddings"):
        assert config.get(key) == inner.get(key, said.get(key)), key
    generation = json.loads((out / "generation_config.json").read_text("utf-8"))
    assert generation.pop("pad_token_id", None) == config.get("pad_token_id")
    assert generation == {"eos_token_id": [2, 106], "bos_token_id": 1, "do_sample": True, "top_k": 64}
    assert (out / "chat_template.jinja").read_text("utf-8") == TEMPLATE


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_verification_asks_the_whole_model(name: str, sources: Callable[[str], Path]) -> None:
    source = sources(name)
    with opened("transformers", source) as worker:
        assert worker.info.vocab_size == 512
        assert worker.info.context_length == tiny.CONFIGS[MODELS[name].text]["max_position_embeddings"]
        assert set(worker.info.eog_ids) >= {2, 106}
        assert worker.info.chat_template == TEMPLATE
        assert np.abs(asked(worker, TOKENS) - logits(source)).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemma3", "qwen3_5_moe"])
def test_four_bits_are_those_of_the_text_decoder_alone(
    name: str, sources: Callable[[str], Path], tmp_path: Path
) -> None:
    targets = "hf: {}\n  onnx: {precision: int4}\n  gguf: {quants: [Q4_K_M]}"
    first = convert_to(tmp_path, sources(name), targets)
    (tmp_path / "again").mkdir()
    second = convert_to(tmp_path / "again", first / "hf", targets)
    for path in sorted(
        path for path in first.rglob("*") if path.suffix in (".data", ".gguf", ".safetensors")
    ):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path.name


@pytest.mark.slow
def test_it_is_verified_against_the_whole_model(sources: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "whole.yaml"
    planting.write_pack(tmp_path / "pack.yaml")
    path.write_text(
        f"model: {sources('gemma3')}\ntargets: {{hf: {{}}, gguf: {{quants: [F32]}}}}\n"
        "verify: {scenarios: [pack.yaml], tokens: 256, gates: {smoke_drop: null}}\n",
        "utf-8",
    )
    recipe, out = load_recipe(path), tmp_path / "artifacts"
    convert_recipe(recipe, out=out, offline=True)
    for artifact in verify_recipe(recipe, out=out, threads=1).artifacts:
        assert artifact.quality is not None
        assert artifact.quality.kl_mean < 1e-4
        assert artifact.quality.top1 > 0.99


def test_the_card_says_what_is_left_out(sources: Callable[[str], Path], tmp_path: Path) -> None:
    out = convert_to(tmp_path, sources("gemma3"), "gguf: {quants: [Q8_0]}")
    shutil.copy(tmp_path / "recipe.yaml", tmp_path / "tiny-whole.yaml")
    artifacts = Artifacts(out.rename(out.parent / "tiny-whole").parent)
    section = unescape(artifacts.card(artifacts.candidate("gguf-Q8_0", "whole")).section("Deviations"))
    for part in MODELS["gemma3"].parts:
        assert f"{part}: left out, as it belongs to the vision tower" in section


def test_a_head_that_comes_after_the_plan_is_no_surprise(
    sources: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A single file may not be here while a conversion is planned; when run again it is."""
    monkeypatch.setattr(tied, "stored_names", lambda _: None)
    with pytest.raises(Failure, match="tie_word_embeddings is both true and false, and a head is stored"):
        convert_to(tmp_path, sources("qwen3_5"), "hf: {}")
    assert not list(tmp_path.rglob("*.safetensors"))


def _edit(folder: Path, **changes: Any) -> Path:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), "utf-8")
    return folder


def test_a_head_with_other_values_is_not_taken_for_the_embedding(
    sources: Callable[[str], Path], tmp_path: Path
) -> None:
    source = shutil.copytree(sources("mistral3"), tmp_path / "source")
    inner = json.loads((source / "config.json").read_text("utf-8"))["text_config"]
    _edit(source, tie_word_embeddings=True, text_config={**inner, "tie_word_embeddings": True})
    with pytest.raises(
        Failure, match=r"tie_word_embeddings is true, and language_model\.lm_head\.weight is not"
    ):
        convert_to(tmp_path, source, "hf: {}")
    assert not list(tmp_path.rglob("model.safetensors*"))[1:]


WRAPPED = {"architectures": ["SomeForConditionalGeneration"], "model_type": "some"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no text_config": ({**WRAPPED, "vision_config": {"depth": 1}}, "no text_config"),
    "an empty one": ({**WRAPPED, "text_config": {}, "vision_config": {"depth": 1}}, "no text_config"),
    "one of another kind": ({**WRAPPED, "text_config": "llama"}, "text_config is no object"),
    "an unknown decoder": (
        {**WRAPPED, "text_config": {"model_type": "t9"}},
        "the text decoder's family 't9' is not supported",
    ),
    "an unknown one that hears": (
        {**WRAPPED, "text_config": {"model_type": "t9"}, "audio_config": {"model_type": "ear"}},
        "the text decoder's family 't9' is not supported",
    ),
    "a decoder without a type": (
        {**WRAPPED, "text_config": {"hidden_size": 4}},
        "text_config: model_type is missing",
    ),
    "pictures alone": (
        {"architectures": ["ViTModel"], "model_type": "vit", "image_size": 224, "patch_size": 16},
        "reads pictures and writes no text",
    ),
    "speech": (
        {
            "architectures": ["WhisperForConditionalGeneration"],
            "model_type": "whisper",
            "is_encoder_decoder": True,
        },
        "an encoder with a decoder",
    ),
    "sound alone": ({"architectures": ["Wav2Vec2ForCTC"], "model_type": "wav2vec2"}, "a speech recognizer"),
    "parts that speak": (
        {
            "architectures": ["OmniForConditionalGeneration"],
            "model_type": "omni",
            "thinker_config": {"text_config": {"model_type": "llama"}},
        },
        "a part of thinker_config",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_models_are_refused_by_what_they_are(case: str) -> None:
    config, said = REFUSED[case]
    with pytest.raises(Failure, match=said) as caught:
        find_family(Config(config))
    assert "\n" not in str(caught.value)
    assert caught.value.hint
    assert "t9" not in supported()
