"""Each command hands on what was asked and prints what came back; one goes the whole way."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convert import Converted, Plan
from convert.deviation import Deviation
from convert.pipeline.result import ArtifactResult, PlannedFile, PlannedTarget
from tests import tiny

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.recipe import Recipe
    from tests.cli.conftest import Run

PLAN = Plan(
    recipe="r",
    model="Qwen/Qwen-7B-Chat",
    commit="0123456789abcdef0123456789abcdef01234567",
    family="qwen2",
    parameter_count=7_721_324_544,
    read_bytes=15_442_649_088,
    download_bytes=15_442_649_088,
    targets=(
        PlannedTarget(
            target="gguf-Q4_K_M",
            folder="o/r/gguf-Q4_K_M",
            files=(PlannedFile("Qwen-7B-Chat-Q4_K_M.gguf", 4_900_000_000),),
            size_bytes=4_900_000_000,
            is_up_to_date=False,
            is_blocked=False,
            deviations=(),
            device=None,
            tool_s=0.0,
        ),
        PlannedTarget(
            target="gguf-Q8_0",
            folder="o/r/gguf-Q8_0",
            files=(PlannedFile("a", 4_100_000_000), PlannedFile("b", 4_100_000_000)),
            size_bytes=8_200_000_000,
            is_up_to_date=True,
            is_blocked=False,
            deviations=(Deviation("blk.0.ffn_down.weight", "Q4_K", "Q5_0", "its rows of 5504 do not fit"),),
            device=None,
            tool_s=0.0,
        ),
    ),
    peak_memory_bytes=500_000_000,
    written_bytes=4_900_000_000,
    disk_needed_bytes=4_916_777_216,
    disk_free_bytes=81_500_000_000,
    estimated_s=200.4,
)
CONVERTED = Converted(
    (
        ArtifactResult("gguf-Q4_K_M", Path("o/r/gguf-Q4_K_M"), "built", 4_900_000_000),
        ArtifactResult("gguf-Q8_0", Path("o/r/gguf-Q8_0"), "up to date", 8_200_000_000),
    ),
    15_442_649_088,
    61.2345,
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the stages were asked for; they answer with the above."""
    calls: dict[str, Any] = {}

    def answer_with(name: str, answer: object) -> None:
        def stage(recipe: Recipe, **options: Any) -> object:
            calls[name] = {"recipe": recipe, **options}
            return answer

        monkeypatch.setattr(name, stage)

    answer_with("convert.convert_recipe", CONVERTED)
    answer_with("convert.plan_recipe", PLAN)
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text("model: a/b\ntargets: {gguf: {quants: [Q4_K_M, Q8_0]}}\n", encoding="utf-8")
    return calls


def test_convert_hands_on_what_was_asked(run: Run, asked: Mapping[str, Any]) -> None:
    line = [
        "convert",
        "r.yaml",
        "--only",
        "gguf-Q4_K_M",
        "--only",
        "gguf",
        "--out",
        "o",
        "--threads",
        3,
        "--offline",
    ]
    assert run(*line).code == 0
    options = asked["convert.convert_recipe"]
    assert options["recipe"].model == "a/b"
    assert options["only"] == ("gguf-Q4_K_M", "gguf")
    assert (options["out"], options["threads"], options["offline"]) == (Path("o"), 3, True)


def test_convert_says_what_became_of_each_artifact(run: Run, asked: Mapping[str, Any]) -> None:
    ran = run("convert", "r.yaml")
    assert ran.out == (
        "status         size  folder\n"
        "built       4.90 GB  o/r/gguf-Q4_K_M\n"
        "up to date  8.20 GB  o/r/gguf-Q8_0\n"
        "\n"
        "1 artifact built in 61 s\n"
        "next: modelwright verify r.yaml\n"
    )
    assert asked["convert.convert_recipe"]["offline"] is None
    answer = json.loads(run("convert", "r.yaml", "--json").out)
    assert answer["artifacts"][0] == {
        "target": "gguf-Q4_K_M",
        "folder": "o/r/gguf-Q4_K_M",
        "status": "built",
        "size_bytes": 4_900_000_000,
    }
    assert (answer["read_bytes"], answer["seconds"]) == (15_442_649_088, 61.234)
    assert run("convert", "r.yaml", "--quiet").out == ""


def test_convert_with_nothing_to_do_says_so(
    run: Run, asked: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not asked
    nothing = replace(CONVERTED, artifacts=CONVERTED.artifacts[1:])
    monkeypatch.setattr("convert.convert_recipe", lambda *_, **__: nothing)
    assert run("convert", "r.yaml").out.endswith(
        "\n\neverything is up to date\nnext: modelwright verify r.yaml\n"
    )


def test_plan_is_a_page(run: Run, asked: Mapping[str, Any]) -> None:
    ran = run("plan", "r.yaml", "--only", "gguf")
    assert ran.code == 0
    assert asked["convert.plan_recipe"]["only"] == ("gguf",)
    assert (
        ran.out
        == """\
model    Qwen/Qwen-7B-Chat at 0123456789abcdef0123456789abcdef01234567
family   qwen2, 7.72 billion parameters
read     15.4 GB, 15.4 GB of it to download
written  4.90 GB
disk     4.92 GB needed, 81.5 GB free
memory   500 MB at most
time     about 3 min 20 s

artifact        size  state       file
gguf-Q4_K_M  4.90 GB  to build    Qwen-7B-Chat-Q4_K_M.gguf
gguf-Q8_0    8.20 GB  up to date  2 files

not as the recipe or the source has it:
  gguf-Q8_0: blk.0.ffn_down.weight: Q5_0 instead of Q4_K, because its rows of 5504 do not fit
"""
    )
    assert json.loads(run("plan", "r.yaml", "--json").out) == json.loads(json.dumps(asdict(PLAN)))


def test_plan_fits_a_terminal(run: Run, asked: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert not asked
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("plan", "r.yaml").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-2:] == [
        "  gguf-Q8_0: blk.0.ffn_down.weight: Q5_0 instead of Q4_K, because its rows of",
        "    5504 do not fit",
    ]


@pytest.mark.parametrize(("device", "said"), [("cpu", "the CPU|about"), ("cuda", "the GPU|very roughly")])
def test_a_guess_at_a_gpu_s_time_is_called_one(
    device: str, said: str, run: Run, asked: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not asked
    made = replace(PLAN.targets[0], target="gptq", device=device, tool_s=61.0)
    monkeypatch.setattr("convert.plan_recipe", lambda *_, **__: replace(PLAN, targets=(made,)))
    lines = run("plan", "r.yaml").out.splitlines()
    where, about = said.split("|")
    assert lines[6] == f"time     {about} 3 min 20 s"
    assert lines[-1] == f"gptq is made on {where} after the others, in {about} 61 s"


def test_plan_refuses_a_disk_that_is_too_small(
    run: Run, asked: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not asked
    full = replace(PLAN, disk_free_bytes=1_900_000_000)
    monkeypatch.setattr("convert.plan_recipe", lambda *_, **__: full)
    ran = run("plan", "r.yaml", "--out", "o")
    assert ran.code == 1
    assert "4.92 GB needed, 1.90 GB free" in ran.out
    assert ran.err.startswith("error: o: 3.02 GB too little space on this disk\nhint:  ")


def test_the_schema_is_printed_whatever_stands(run: Run) -> None:
    ran = run("list", "--schema", "--quiet")
    assert json.loads(ran.out)["title"] == "Recipe"


def test_list_in_an_empty_folder_says_what_to_do(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("convert.recipe.lookup._SHIPPED", tmp_path / "none")
    assert (
        run("list").out == "no recipes: there is no folder recipes/ here\n\nno artifacts in artifacts/ yet\n"
    )
    assert run("clean", "--orphans").err.startswith("error: there is no recipe here to judge by\n")


def test_a_recipe_that_is_wrong_is_listed_with_what_is_wrong(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("convert.recipe.lookup._SHIPPED", tmp_path / "none")
    Path("recipes").mkdir()
    Path("recipes/bad.yaml").write_text("model: a/b\n", encoding="utf-8")
    assert "bad     —        recipes/bad.yaml:1: targets: is missing" in run("list").out


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe `tiny-one` and its model, in the folder that is worked in."""
    folder = tiny.make(tmp_path / "recipes" / "weights", tiny.Recipe("llama"))
    words = {f"<{number}>": number for number in range(tiny.VOCAB_SIZE)}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": words, "merges": []},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    recipe = "model: weights\ntargets: {gguf: {quants: [Q8_0, F16]}}\n"
    (tmp_path / "recipes" / "tiny-one.yaml").write_text(recipe, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("out", "made", "in_the_way"),
    [
        (
            "artifacts",
            "artifacts/tiny-one/gguf-F16/notes.txt",
            "artifacts/tiny-one/gguf-F16: holds files but no",
        ),
        ("a file/below", "a file", "a file: a file is where a folder is needed"),
    ],
    ids=["a stranger's folder", "a file"],
)
def test_what_stands_in_the_way_is_told_by_the_plan_and_before_the_download(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch, *, out: str, made: str, in_the_way: str
) -> None:
    assert model.is_dir()
    Path(made).parent.mkdir(parents=True, exist_ok=True)
    Path(made).touch()
    planned = run("plan", "tiny-one", "--out", out)
    assert planned.err.startswith(f"error: {in_the_way}")
    states = [line.split("  ")[2] for line in planned.out.splitlines() if line.startswith("gguf-")]
    assert states == ["blocked" if out != "artifacts" else "to build", "blocked"]
    monkeypatch.setattr("convert.pipeline.stage.download.fetch", lambda *_, **__: pytest.fail("it went on"))
    converted = run("convert", "tiny-one", "--out", out, "--quiet")
    assert (planned.code, converted.code, converted.err) == (1, 1, planned.err)


def test_the_whole_way(run: Run, model: Path) -> None:
    assert model.is_dir()
    plan = json.loads(run("plan", "tiny-one", "--json").out)
    assert [target["is_up_to_date"] for target in plan["targets"]] == [False, False]
    built = run("convert", "tiny-one")
    assert (built.code, built.out.count("built  ")) == (0, 2), built.err
    assert "everything is up to date" in run("convert", "tiny-one").out
    artifact = Path("artifacts/tiny-one/gguf-Q8_0")
    sound = run("inspect", artifact, "--verify")
    assert (sound.code, "every digest is right" in sound.out) == (0, True)
    answer = json.loads(run("inspect", artifact, "--json").out)
    assert answer["manifest"]["target"] == "gguf-Q8_0"
    (file,) = artifact.glob("*.gguf")
    assert "architecture  llama" in run("inspect", file).out
    assert run("inspect", file, "--verify").code == 2
    assert "tiny-one  gguf-Q8_0" in run("list").out

    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    damaged = run("inspect", artifact, "--verify")
    assert (damaged.code, f"{file.name}: sha256 differs" in damaged.out) == (1, True)
    file.write_bytes(content[:-1])
    assert "size differs" in run("clean", "--dry-run").out
    assert artifact.exists()
    assert "\n1 folder removed, " in run("clean").out
    assert not artifact.exists()
    assert Path("artifacts/tiny-one/gguf-F16").exists()
    Path("recipes/tiny-one.yaml").unlink()
    assert run("clean").out == "nothing to remove\n"
    assert "there is no recipe 'tiny-one' any more" in run("clean", "--orphans").out
    assert not Path("artifacts/tiny-one").exists()


def test_what_is_shipped_does_not_say_where_it_was_made(run: Run, model: Path) -> None:
    recipe = f"model: {model}\ntargets: {{gguf: {{quants: [F16]}}}}\n"
    Path("recipes/tiny-one.yaml").write_text(recipe, encoding="utf-8")
    assert run("convert", "tiny-one").code == 0
    artifact = Path("artifacts/tiny-one/gguf-F16")
    for file in artifact.iterdir():
        assert str(model.parent).encode() not in file.read_bytes(), file
    assert "model: …/weights\n" in json.loads((artifact / "manifest.json").read_text("utf-8"))["recipe"]
