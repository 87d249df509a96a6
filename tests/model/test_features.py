"""Features follow from a decoder's data, and a format is asked about every one of them."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from convert.errors import UsageFailure
from convert.formats import find_format, format_names, option_models
from convert.formats.gguf import tensors as gguf
from convert.formats.render import require_rendered
from convert.model import decoder as module
from convert.model.binding import name_of
from convert.model.config import Config
from convert.model.decoder import Decoder, Experts, Ref, Role
from convert.model.families import family, supported
from convert.model.feature import Feature
from convert.recipe import load
from tests import tiny

if TYPE_CHECKING:
    from pathlib import Path

PARTS = [part for part in vars(module).values() if is_dataclass(part)]
TARGETS = "targets:\n{}\ncalibration: {{packs: [searchqa]}}\n".format(
    "\n".join(
        f"  {name}: {options.short.default if options.short and options.short.default else '{}'}"
        for name, options in option_models().items()
    )
)


def described(model_type: str, **changes: Any) -> Decoder:
    return family(model_type).describe(Config({**tiny.CONFIGS[model_type], **changes}))


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_field_that_can_depart_names_its_feature(part: Any) -> None:
    if part in (Ref, module.Origin):  # names and places, which formats never compute with
        return
    for each in fields(part):
        is_asked_about = each.default is MISSING or "feature" in each.metadata
        assert is_asked_about, f"{part.__name__}.{each.name}: declare it with switch() or plain()"


@pytest.mark.parametrize("model_type", supported())
def test_each_family_is_rendered_somewhere(model_type: str) -> None:
    decoder = described(model_type)
    rendered = [find_format(name).renders(decoder) for name in format_names()]
    assert any(found is not None and decoder.features <= found for found in rendered)


def test_features_follow_from_the_data() -> None:
    assert described("llama", rope_scaling=None).features == frozenset()
    assert described("qwen2").features == {Feature.QKV_BIAS}
    assert described("gemma").features == {
        Feature.OFFSET_NORM, Feature.EMBEDDING_SCALE, Feature.GELU_TANH,
    }  # fmt: skip
    assert described("phi3", partial_rotary_factor=0.5).features == {Feature.PARTIAL_ROTARY}
    decoder = described("mistral", sliding_window=64)
    assert decoder.features == {Feature.WINDOW}
    wide = replace(decoder.layer, mixer=replace(decoder.attention, window=None))
    mixed = replace(decoder, layers=(wide, *decoder.layers[1:]))
    assert mixed.features == {Feature.WINDOW, Feature.MIXED_WINDOWS}
    odd = replace(decoder, layers=(replace(wide, mlp=module.Dense(64)), *decoder.layers[1:]))
    assert odd.features == {Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.MIXED_MLPS}


def test_what_no_field_says_alone_is_a_feature_too() -> None:
    """A format that writes one epsilon, or turns heads unasked, must not take these for the plain case."""
    decoder = described("llama", rope_scaling=None)
    assert decoder.with_mixers(rope=None).features == {Feature.NO_POSITIONS}
    assert replace(decoder, final_norm=module.Norm(1e-3)).features == {Feature.MIXED_NORMS}
    own = replace(described("qwen3"), final_norm=module.Norm(1e-5))
    assert own.features == {Feature.QK_NORM}
    assert own.with_mixers(qk_norm=module.Norm(1e-6)).features == {Feature.QK_NORM, Feature.MIXED_NORMS}
    apart = Experts(count=3, used_count=2, size=96, is_normalized=False)
    mixture = replace(decoder, layers=tuple(replace(layer, mlp=apart) for layer in decoder.layers))
    assert mixture.features == {Feature.EXPERTS, Feature.UNNORMALIZED_EXPERTS}


# Each with the targets that cannot express it.
PLANTED: dict[str, tuple[Feature, dict[str, Any], list[str]]] = {
    "softcap": (Feature.SOFTCAP, {"softcap": 50.0}, ["gguf"]),
    "sinks": (Feature.SINKS, {"has_sinks": True}, ["gguf", "gptq", "awq"]),
    "scale": (Feature.ATTENTION_SCALE, {"scale": 0.1}, ["gguf"]),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_feature_that_a_format_cannot_compute_is_refused(planted: str, tmp_path: Path) -> None:
    feature, change, refusing = PLANTED[planted]
    path = tmp_path / "planted.yaml"
    path.write_text(f"model: a/b\n{TARGETS}")
    recipe = load(path, option_models())
    decoder = described("qwen2").with_mixers(**change)
    assert feature in decoder.features
    for name in refusing:
        with pytest.raises(UsageFailure) as caught:
            require_rendered(recipe, [name], decoder)
        (problem,) = caught.value.problems
        line = next(n for n, text in enumerate(recipe.text.splitlines(), 1) if text.startswith(f"  {name}:"))
        assert problem.message == f"{path}:{line}: targets.{name}: cannot express {feature} (qwen2)"
        able = set(problem.hint.removeprefix("targets that can: ").split(", "))
        assert able >= {"awq", "gguf", "gptq", "hf", "onnx"} - {*refusing}
        assert not able & {*refusing}


def test_the_targets_that_can_are_named(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_text(f"model: a/b\n{TARGETS}")
    recipe = load(path, option_models())
    decoder = described("qwen3", attention_bias=True)  # for which llama.cpp's graph has no place
    require_rendered(recipe, ["onnx", "hf"], decoder)
    with pytest.raises(UsageFailure) as caught:
        require_rendered(recipe, ["gguf", "onnx"], decoder)
    (problem,) = caught.value.problems
    missing = "biases of attention outputs and biases of queries, keys and values"
    assert problem.message.endswith(f"targets.gguf: cannot express {missing} (qwen3)")
    assert problem.hint.startswith("targets that can: awq, compressed-tensors, gptq, hf")
    assert "gguf" not in problem.hint


def test_a_family_without_a_graph_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "none.yaml"
    path.write_text(f"model: a/b\n{TARGETS}")
    monkeypatch.setattr(gguf, "family", lambda name: replace(family(name), gguf=None))
    with pytest.raises(UsageFailure) as caught:
        require_rendered(load(path, option_models()), format_names(), described("llama", rope_scaling=None))
    (problem,) = caught.value.problems
    assert problem.message.endswith("targets.gguf: cannot express this family (llama)")
    assert problem.hint == f"targets that can: {', '.join(name for name in format_names() if name != 'gguf')}"
    assert "gguf" not in problem.hint


def test_a_mixture_of_experts_has_shapes_and_names() -> None:
    plain = described("llama", rope_scaling=None)
    experts = Experts(count=3, used_count=2, size=96, shared_size=64)
    decoder = replace(plain, layers=tuple(replace(layer, mlp=experts) for layer in plain.layers))
    assert decoder.features == {Feature.EXPERTS, Feature.SHARED_EXPERTS}
    shapes = dict(decoder.shapes())
    assert shapes[Ref(Role.ROUTER, 1)] == (3, 256)
    assert shapes[Ref(Role.EXPERT_DOWN, 1, expert=2)] == (256, 96)
    assert shapes[Ref(Role.SHARED_UP, 0)] == (64, 256)
    assert Ref(Role.MLP_UP, 0) not in shapes
    naming = family("llama").naming
    names = [name_of(naming, ref) for ref in shapes]
    assert len(set(names)) == len(names)
    assert "model.layers.3.mlp.experts.2.up_proj.weight" in names
    assert str(Ref(Role.EXPERT_UP, 3, expert=2)) == "3.expert_up.2.weight"
    router, expert, shared = 3 * 256, 3 * 3 * 96 * 256, 3 * 64 * 256
    dense = 3 * 768 * 256
    assert decoder.parameter_count - plain.parameter_count == 4 * (router + expert + shared - dense)
