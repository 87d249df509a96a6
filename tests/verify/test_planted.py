"""Each mistake that a conversion has been seen to make is caught, by the check that is there for it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.child import Limits
from convert.errors import Failure
from convert.pipeline.stage.judge import write_tokenizer
from convert.recipe import Gates
from tests import tiny
from tests.verify import planting
from verify.baseline import Baseline, Source, question_source
from verify.examination import Examination
from verify.task import Plan, Silence, Subject

if TYPE_CHECKING:
    from verify.report import ArtifactResult

BAD = str(Path(__file__).parent / "bad_runtime.py")
GATES = Gates(smoke_drop=None, ppl_ratio=1.02, kl_mean=0.01, top1=0.9)
TOKENS = "tokenizer.ggml.tokens"


@dataclass(frozen=True)
class Ground:
    """The source, its sound conversions, and what it said of itself."""

    home: Path
    source: Path
    sound: dict[str, Path]
    plan: Plan
    baseline: Baseline

    def examine(self, path: Path, **more: Any) -> ArtifactResult:
        """Look at an artifact, and ask it."""
        plan = more.pop("plan", self.plan)
        examination = Examination(Subject("it", path, **{"gates": GATES, **more}), plan, Silence())
        examination.look_at_files()
        examination.question(self.baseline)
        return examination.result()


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    home = tmp_path_factory.mktemp("planted")
    source, plan = planting.make_source(home / "source"), make_plan()
    asked = Source(source, write_tokenizer(source, home / "tokenizer"), None, None, "0" * 64, size_of(source))
    baseline = question_source(asked, plan, home / "cache", Silence())
    sound = planting.convert(source, home / "sound", ["F16", "Q8_0", "Q2_K"])
    return Ground(home, source, sound, plan, baseline)


@pytest.fixture(scope="module")
def hurried(ground: Ground) -> Ground:
    """The same in a time that is long over: what is never left out is all that is asked."""
    plan = replace(ground.plan, budget_s=1.0)
    asked = Source(ground.source, ground.home / "tokenizer", None, None, "0" * 64, size_of(ground.source))
    baseline = question_source(asked, plan, ground.home / "cache", Silence())
    scope = baseline.scope
    assert (scope.windows.asked, scope.windows.of, scope.repetitions.asked) == (2, 4, 1)
    assert scope.limit_s == 1.0
    return replace(ground, plan=plan, baseline=baseline)


@pytest.mark.slow
def test_the_smallest_budget_catches_the_same(hurried: Ground) -> None:
    for quant in ("F16", "Q8_0"):
        assert caught(hurried.examine(hurried.sound[quant])) == {}
    for name in ("permuted", "gate and up swapped"):
        assert {"kl_mean", "top1"} <= set(caught(hurried.examine(weights(hurried, name, "hurried"))))
    coarse = caught(hurried.examine(hurried.sound["Q2_K"], gates=Gates()))
    assert {"kl_mean", "top1"} <= set(coarse)
    for name, check in (
        ("off by one", "tokenizer"),
        ("end lost", "end_of_turn"),
        ("context", "context_length"),
    ):
        assert check in caught(hurried.examine(edited(hurried, name)))


def size_of(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.iterdir())


def make_plan() -> Plan:
    random = np.random.default_rng(5)
    words = ("planet", "sun", "太阳", "is", "the", "largest", "of", "八颗", "1957", "and", "请", "materials")
    text = " ".join(random.choice(words, 900))
    return Plan((), text, "words", tokens=512, window=128, threads=1, limits=Limits(open_s=60, request_s=60))


def caught(result: ArtifactResult) -> dict[str, str]:
    return {check.name: check.why for check in result.failures}


@pytest.mark.parametrize("quant", ["F16", "Q8_0"])
def test_a_sound_artifact_passes(quant: str, ground: Ground) -> None:
    result = ground.examine(ground.sound[quant])
    assert caught(result) == {}
    names = {check.name for check in result.checks}
    assert names >= {
        "digests",
        "opens",
        "tokenizer",
        "markup",
        "chat_template",
        "end_of_turn",
        "context_length",
    }
    assert names >= {"kl_mean", "ppl_ratio", "top1"}
    assert result.quality is not None
    assert result.quality.positions == 4 * 63


def weights(ground: Ground, name: str, home: str = "") -> Path:
    """A conversion that got the weights wrong."""
    made = tiny.tensors(planting.MODEL)
    layer = "model.layers.2"
    if name == "permuted":
        order = np.random.default_rng(1).permutation(made[f"{layer}.self_attn.q_proj.weight"].shape[0])
        wrong = {f"{layer}.self_attn.q_proj.weight": made[f"{layer}.self_attn.q_proj.weight"][order]}
    else:
        gate, up = (f"{layer}.mlp.{part}_proj.weight" for part in ("gate", "up"))
        wrong = {gate: made[up], up: made[gate]}
    changed = planting.copy_with(ground.source, ground.home / f"{home}{name}-source", wrong)
    return planting.convert(changed, ground.home / f"{home}{name}", ["F16"])["F16"]


@pytest.mark.parametrize("name", ["permuted", "gate and up swapped"])
def test_wrong_weights_are_caught(name: str, ground: Ground) -> None:
    found = caught(ground.examine(weights(ground, name.partition(" ")[0])))
    assert {"kl_mean", "top1"} <= set(found)
    assert not {"digests", "tokenizer", "opens"} & set(found)


def test_a_wrong_rope_base_is_caught(ground: Ground) -> None:
    changed = planting.copy_with_config(ground.source, ground.home / "rope-source", {"rope_theta": 1e6})
    found = caught(ground.examine(planting.convert(changed, ground.home / "rope", ["F16"])["F16"]))
    assert {"kl_mean"} <= set(found)


def test_a_quant_far_too_coarse_is_caught(ground: Ground) -> None:
    found = caught(ground.examine(ground.sound["Q2_K"], gates=Gates()))
    assert {"kl_mean", "top1"} <= set(found)
    assert "nats" in found["kl_mean"]


def edited(ground: Ground, name: str) -> Path:
    """A conversion that got the key-values wrong."""
    file = planting.file_of(ground.sound["F16"])
    tokens = planting.field(file, TOKENS)
    changes: dict[str, dict[str, Any]] = {
        "off by one": {TOKENS: [*tokens[1:], tokens[0]]},
        "no template": {"tokenizer.chat_template": None},
        "other template": {"tokenizer.chat_template": "{% for m in messages %}{{ m.content }}\n{% endfor %}"},
        "refused template": {"tokenizer.chat_template": "{{ messages.__class__.__mro__ }}"},
        "end lost": {
            TOKENS: ["<|im_gone|>" if token == "<|im_end|>" else token for token in tokens],
            "tokenizer.ggml.eos_token_id": tokens.index("<|endoftext|>"),
            "tokenizer.ggml.eot_token_id": None,
        },
        "context": {"qwen2.context_length": 128},
    }
    return planting.rewrite(file, ground.home / f"{name}.gguf", changes[name])


@pytest.mark.parametrize(
    ("name", "check", "said"),
    [
        ("off by one", "tokenizer", "are tokenized differently"),
        ("no template", "chat_template", "the artifact has none"),
        ("other template", "chat_template", "rendered differently"),
        ("refused template", "chat_template", "sandbox refuses"),
        ("end lost", "end_of_turn", "<|im_end|> (511) ends an answer of the source, but not of this"),
        ("context", "context_length", "the context length is 128; the source's is 256"),
    ],
)
def test_wrong_metadata_is_caught(name: str, check: str, said: str, ground: Ground) -> None:
    found = caught(ground.examine(edited(ground, name)))
    assert said in found[check]
    assert name != "no template" or set(found) == {"chat_template"}


def test_a_flipped_byte_is_caught_before_it_is_opened(ground: Ground) -> None:
    folder = ground.home / "flipped"
    shutil.copytree(ground.sound["Q8_0"], folder)
    file = planting.file_of(folder)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    result = ground.examine(folder)
    assert "sha256 differs; it is not opened" in caught(result)["digests"]
    assert result.opened is None
    file.write_bytes(data[:-5])
    assert "size differs" in caught(ground.examine(folder))["digests"]
    (folder / "manifest.json").write_text("{}")
    assert "digests" in caught(ground.examine(folder))


def test_a_file_that_cannot_be_read_fails_its_artifact_alone(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise Failure("m.gguf: no permission", "check who owns the folder")

    monkeypatch.setattr("verify.files.inspect_artifact", refused)  # root may read everything
    result = ground.examine(ground.sound["Q8_0"])
    assert caught(result) == {"digests": "m.gguf: no permission; it is not opened"}
    assert result.opened is None


def test_a_damaged_header_is_not_given_to_natives(ground: Ground) -> None:
    file = ground.home / "short.gguf"
    file.write_bytes(planting.file_of(ground.sound["F16"]).read_bytes()[:3000])
    result = ground.examine(file)
    assert "it is not opened" in caught(result)["header"]
    assert result.opened is None


@pytest.mark.parametrize(
    ("options", "check", "said"),
    [
        ({"at_open": "crash"}, "opens", "SIGSEGV"),
        ({"at_open": "exit 3"}, "opens", "exited with code 3"),
        ({"at_open": "hang"}, "opens", "did not answer"),
        ({}, "vocabulary", "128"),
    ],
)
def test_a_runtime_that_fails_is_a_failed_check(
    options: dict[str, str], check: str, said: str, ground: Ground
) -> None:
    impatient = replace(ground.plan, limits=Limits(open_s=1.0 if options.get("at_open") == "hang" else 30.0))
    found = caught(ground.examine(ground.sound["F16"], plan=impatient, runtime=BAD, options=options))
    assert said in found[check]
    assert options.get("at_open") != "crash" or "about to read address 0" in found["opens"]
