"""What GPTQModel is fed and when: a canonical checkpoint, after all else stands, gone afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file

from convert import convert_recipe, machine, plan_recipe
from convert.errors import Failure, UsageFailure
from convert.formats import option_models
from convert.formats.gptq import gptqmodel as gptq_format
from convert.recipe import load
from convert.store import Store, inspect_artifact, read_manifest
from tests import tiny
from tests.gptq.making import convert, copying, recipe
from tests.hf.describing import convert_to, make

if TYPE_CHECKING:
    from convert.quantizer import Job

# The tiny Qwen's own 352 is no multiple of 128, as it is with no published one.
WIDE = {"intermediate_size": 2 * 384}


def in_staging(place: Path) -> list[str]:
    found = (each.name for each in (place / "artifacts" / ".staging").iterdir())
    return [name for name in found if name != ".turn"]  # the lock under which artifacts change places


def test_a_relabeled_source_is_laid_out_for_the_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "source", tiny.Recipe("qwen", WIDE, shards=2))
    expected = load_file(convert_to(tmp_path, source, "hf: {}") / "hf" / "model.safetensors")
    seen: dict[str, bytes] = {}

    def look(job: Job) -> None:
        seen.update({path.name: path.read_bytes() for path in job.source.iterdir()})
        assert not any(path.is_symlink() for path in job.source.iterdir())
        assert load_file(job.source / "model.safetensors").keys() == expected.keys()

    jobs = copying(monkeypatch, look)
    out = convert(tmp_path, source, "gptq: {engine: gptqmodel}")
    assert json.loads(seen["config.json"])["model_type"] == "qwen2"
    assert [(job.method, job.bits, job.group_size, job.sym, job.desc_act) for job in jobs] == [
        ("gptq", 4, 128, True, False)
    ]
    assert [len(window) for window in jobs[0].windows] == [64] * 4
    assert in_staging(tmp_path) == []
    assert inspect_artifact(out / "gptq", verify=True).differences == ()


def test_a_canonical_source_is_linked_and_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "source", tiny.Recipe("llama", shards=2))

    def look(job: Job) -> None:
        for path in job.source.glob("*.safetensors"):
            assert path.resolve() == source / path.name
        index = json.loads((job.source / "model.safetensors.index.json").read_text("utf-8"))
        assert set(index["weight_map"].values()) == {path.name for path in source.glob("*.safetensors")}

    jobs = copying(monkeypatch, look)
    convert(tmp_path, source, "gptq: {engine: gptqmodel}")
    assert len(jobs) == 1


@pytest.mark.parametrize("fault", ["a buffer more", "no prefix"])
def test_a_source_that_is_nearly_canonical_is_laid_out_anew(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    what = tiny.Recipe("gpt2", has_prefix=fault != "no prefix")
    source = make(tmp_path / "source", what)
    if fault == "a buffer more":
        made = tiny.tensors(what)
        made["transformer.h.0.attn.masked_bias"] = made["transformer.h.0.attn.c_attn.bias"][:1]
        tiny.write_safetensors(source / "model.safetensors", made, "BF16")

    def look(job: Job) -> None:
        names = load_file(job.source / "model.safetensors")
        assert all(name.startswith("transformer.") and "masked" not in name for name in names)
        assert names["transformer.h.0.attn.c_attn.weight"].shape == (256, 768)

    jobs = copying(monkeypatch, look)
    convert(tmp_path, source, "gptq: {engine: gptqmodel}")
    assert len(jobs) == 1


def test_two_tools_are_fed_from_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = copying(monkeypatch)
    convert(
        tmp_path, make(tmp_path / "source", tiny.Recipe("qwen", WIDE)), "gptq: {engine: gptqmodel}\n  awq: {}"
    )
    assert [job.method for job in jobs] == ["awq", "gptq"] or [job.method for job in jobs] == ["gptq", "awq"]
    assert jobs[0].source == jobs[1].source


def test_awq_is_fed_16_bits_of_a_wider_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fed: dict[str, str] = {}

    def look(job: Job) -> None:
        fed[job.method] = str(load_file(job.source / "model.safetensors")["model.norm.weight"].dtype)

    copying(monkeypatch, look)
    source = make(tmp_path / "source", tiny.Recipe("qwen2", WIDE, dtype="F32"))
    out = convert(tmp_path, source, "gptq: {engine: gptqmodel}\n  awq: {}")
    assert fed == {"gptq": "torch.float32", "awq": "torch.float16"}
    said = {target: [each.why for each in read_manifest(out / target).deviations] for target in fed}
    assert "GPTQModel's AWQ computes in 16 bits" in said["awq"]
    assert "GPTQModel's AWQ computes in 16 bits" not in said["gptq"]


def test_a_tool_that_fails_takes_nothing_else_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job: Job) -> None:
        (job.out / "half").write_bytes(b"half")
        assert (tmp_path / "artifacts" / "recipe" / "gguf-Q8_0" / "manifest.json").is_file()
        raise Failure("gptq: it ran out of memory")

    copying(monkeypatch, fail)
    source = make(tmp_path / "source", tiny.Recipe("qwen", WIDE))
    with pytest.raises(Failure, match="ran out of memory"):
        convert(tmp_path, source, "gptq: {engine: gptqmodel}\n  gguf: {quants: [Q8_0]}")
    assert [path.name for path in (tmp_path / "artifacts" / "recipe").iterdir()] == ["gguf-Q8_0"]
    assert in_staging(tmp_path) == []


def test_what_was_damped_more_and_what_changed_its_type_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying(monkeypatch)
    source = make(tmp_path / "source", tiny.Recipe("qwen", WIDE))
    manifest = read_manifest(convert(tmp_path, source, "gptq: {engine: gptqmodel}") / "gptq")
    told = {(each.subject, each.wanted, each.got) for each in manifest.deviations}
    assert ("model.layers.0.mlp.up_proj", "damp 0.01", "damp 0.06") in told
    assert ("weights", "the same bits on every machine", "the same bits on machines of one kind") in told
    calibration = manifest.options["calibration"]
    assert isinstance(calibration, dict)
    assert (calibration["source"], calibration["tokens"]) == ("text.txt", 256)
    assert manifest.tensors["model.layers.0.mlp.up_proj.weight"] == "gptq-4bit-128"
    assert manifest.tensors["model.norm.weight"] == "BF16"


def test_what_stands_is_made_again_for_another_text_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = copying(monkeypatch)
    source = make(tmp_path / "source", tiny.Recipe("qwen", WIDE))
    for calibration in ("samples: 4, length: 64", "samples: 4, length: 64", "samples: 5, length: 64"):
        asked = recipe(tmp_path, source, "gptq: {engine: gptqmodel}", calibration)
        convert_recipe(asked, out=tmp_path / "artifacts", offline=True)
    assert [len(job.windows) for job in jobs] == [4, 5]


REFUSED = [
    (
        "gptq: {group_size: 96}",
        "recipe.yaml:3: targets.gptq.group_size: 96 does not divide 256",
        "32 or -1",
    ),
    (
        "gptq: {group_size: 64}",
        "recipe.yaml:3: targets.gptq.group_size: 64 does not divide 352",
        "use 32",
    ),
    ("awq:\n    group_size: 16", "recipe.yaml:4: targets.awq.group_size: 16 is a group size that", "use 32"),
]


@pytest.mark.parametrize(("targets", "said", "hint"), REFUSED)
def test_groups_that_do_not_fit_are_refused_with_their_line(
    targets: str, said: str, hint: str, tmp_path: Path
) -> None:
    source = make(tmp_path / "source", tiny.Recipe("qwen"))
    weights = source / "model.safetensors"
    weights.write_bytes(bytes(weights.stat().st_size))  # not to be read
    with pytest.raises(UsageFailure) as caught:
        plan_recipe(recipe(tmp_path, source, targets), out=tmp_path / "artifacts", offline=True)
    (problem,) = caught.value.problems
    assert said in problem.message
    assert hint in problem.hint


def test_what_gptqmodel_cannot_do_is_refused_by_the_plan(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("gpt2"))
    with pytest.raises(
        UsageFailure, match=r"recipe\.yaml:3: targets\.awq: cannot express transposed matrices"
    ):
        plan_recipe(recipe(tmp_path, source, "awq: {}"), out=tmp_path / "artifacts", offline=True)


def test_a_text_of_too_few_tokens_is_refused_by_the_plan(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("llama"))
    asked = recipe(tmp_path, source, "gptq: {engine: gptqmodel}")
    (tmp_path / "text.txt").write_text("short", "utf-8")
    with pytest.raises(Failure, match="the text makes 5 tokens"):
        plan_recipe(asked, out=tmp_path / "artifacts", offline=True)


def test_a_recipe_without_a_text_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("model: a/b\ntargets:\n  gptq: {engine: gptqmodel}\n", "utf-8")
    with pytest.raises(UsageFailure, match=r"recipe\.yaml:3: targets\.gptq: needs a calibration text"):
        load(path, option_models())


def test_a_machine_too_small_is_told_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe(tmp_path, make(tmp_path / "source", tiny.Recipe("llama")), "gptq: {engine: gptqmodel}")
    planned = plan_recipe(asked, out=tmp_path / "artifacts", offline=True)
    assert planned.targets[0].device == "cpu"
    monkeypatch.setattr(machine, "memory_bytes", lambda: planned.peak_memory_bytes - 1)
    with pytest.raises(
        Failure, match=r"gptq: about \d+ MB of memory needed, and this machine has \d+ MB$"
    ) as caught:
        plan_recipe(asked, out=tmp_path / "artifacts", offline=True)
    assert "samples" in caught.value.hint


def test_more_text_than_any_machine_could_hold_is_refused_before_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gptq_format, "windows", lambda *_, **__: pytest.fail("the text was cut"))
    source = make(tmp_path / "source", tiny.Recipe("llama", {"max_position_embeddings": 1 << 20}))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"model: {source}\ntargets: {{gptq: {{engine: gptqmodel}}}}\n"
        "calibration: {packs: [searchqa], samples: 100000, length: 131072}\n",
        "utf-8",
    )
    with pytest.raises(Failure, match=r"gptq: about [\d.]+ [GT]B of memory needed"):
        plan_recipe(load(path, option_models()), out=tmp_path / "artifacts", offline=True)


def test_a_gpu_that_is_not_there_is_refused_by_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "has_gpu", lambda: False)
    asked = recipe(tmp_path, make(tmp_path / "source", tiny.Recipe("llama")), "gptq: {device: cuda}")
    with pytest.raises(
        UsageFailure, match=r"recipe\.yaml:3: targets\.gptq\.device: cuda, and torch will find no GPU"
    ):
        plan_recipe(asked, out=tmp_path / "artifacts", offline=True)


WAITING = """
import sys, time
from pathlib import Path
from tests.gptq.making import convert
from convert.formats.gptq import gptqmodel as gptq_format

def wait(job, **_):
    (job.out / "half").write_bytes(b"half")
    print("working", flush=True)
    time.sleep(60)

gptq_format.quantize = wait
convert(Path(sys.argv[1]), Path(sys.argv[2]), "gptq: {engine: gptqmodel}")
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_leaves_nothing_to_be_seen(how: signal.Signals, tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("qwen", WIDE))
    command = [sys.executable, "-c", WAITING, str(tmp_path), str(source)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "working\n"
        process.send_signal(how)
        process.wait(20)
    assert not (tmp_path / "artifacts" / "recipe").exists()
    Store(tmp_path / "artifacts").sweep()
    assert in_staging(tmp_path) == []
