"""What a recipe may say, and what is said about one that is wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from convert.errors import Failure, UsageFailures
from convert.formats.gguf.mixture import MIXTURES
from convert.formats.gguf.options import GgufOptions, Quant
from convert.recipe import Recipe, TargetOptions, load

FORMATS: dict[str, type[TargetOptions]] = {"gguf": GgufOptions}
WHOLE = """\
model: Qwen/Qwen-7B-Chat        # a Hub repo, or a local folder
revision: main
targets:
  gguf: {quants: [Q4_K_M, Q5_K_M, Q8_0], imatrix: calibration, split_max_size: 4GB}
calibration: {packs: [searchqa, lessonpack], samples: 128, length: 2048, seed: 0}
verify:
  scenarios: [searchqa, lessonpack]
  gates: {smoke_drop: 0.05, ppl_ratio: 1.05, kl_mean: 5e-2, top1: 0.90, peak_rss_bytes: 0x100000000}
publish: {repo: "{user}/{model}-{target}", private: true}
"""
SMALL = "model: a/b\ntargets:\n  gguf: {quants: [Q8_0]}\n"


def read(folder: Path, text: str) -> Recipe:
    file = folder / "r.yaml"
    file.write_text(text, encoding="utf-8", newline="")
    return load(file, FORMATS)


def faults(folder: Path, text: str) -> list[tuple[str, str]]:
    """The findings, without the file's name."""
    with pytest.raises(UsageFailures) as raised:
        read(folder, text)
    for problem in raised.value.problems:
        assert "\n" not in problem.message + problem.hint
        assert problem.hint
    return [
        (problem.message.removeprefix(f"{folder / 'r.yaml'}:"), problem.hint)
        for problem in raised.value.problems
    ]


def test_a_whole_recipe_is_read(tmp_path: Path) -> None:
    recipe = read(tmp_path, WHOLE)
    assert (recipe.name, recipe.model, recipe.revision) == ("r", "Qwen/Qwen-7B-Chat", "main")
    assert recipe.text == WHOLE
    assert recipe.folder is None
    options = recipe.targets["gguf"]
    assert isinstance(options, GgufOptions)
    assert options.quants == (Quant.Q4_K_M, Quant.Q5_K_M, Quant.Q8_0)
    assert options.split_max_bytes == 4_000_000_000
    assert (options.learns_by, options.imatrix_file) == ("imatrix", None)
    assert recipe.calibration is not None
    assert recipe.calibration.packs == ("searchqa", "lessonpack")
    assert recipe.verify.gates.kl_mean == 0.05
    assert recipe.verify.gates.peak_rss_bytes == 2**32
    assert recipe.publish is not None
    assert recipe.publish.private


def test_what_is_left_out_has_the_designs_values(tmp_path: Path) -> None:
    recipe = read(tmp_path, SMALL)
    assert (recipe.revision, recipe.calibration, recipe.publish) == ("main", None, None)
    assert recipe.verify.scenarios == ("searchqa", "lessonpack")
    assert recipe.verify.gates.ppl_ratio == 1.05
    options = recipe.targets["gguf"]
    assert isinstance(options, GgufOptions)
    assert (options.imatrix, options.split_max_bytes, options.learns_by) == (None, None, None)


def test_a_recipe_does_not_change(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        read(tmp_path, SMALL).model = "c/d"


def test_files_and_folders_are_seen_from_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "im.gguf").touch()
    monkeypatch.chdir("/")
    recipe = read(tmp_path, "model: weights\ntargets: {gguf: {quants: [Q4_0], imatrix: ./im.gguf}}\n")
    options = recipe.targets["gguf"]
    assert isinstance(options, GgufOptions)
    assert recipe.folder == tmp_path / "weights"
    assert options.imatrix_file == Path("im.gguf")
    assert recipe.locate(options.imatrix_file) == tmp_path / "im.gguf"


def test_everything_wrong_is_said_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
model: Qwen/Qwen-7B-Chat
revison: main
targets:
  gguf:
    quants: [Q4_KM, Q8_0]
    imatrix: calibration
  awk: {bits: 4}
verify:
  gates: {top1: 2}
publish: {private: yes}
model: c/d
"""
    assert [what for what, _ in faults(tmp_path, text)] == [
        "2: revison: unknown key",
        "5: targets.gguf.quants[0]: 'Q4_KM' is not known",
        "7: targets.awk: unknown format",
        "9: verify.gates.top1: 2 is out of bounds",
        "10: publish.private: must be true or false, not 'yes'",
        "11: model: given twice, first in line 1",
    ]


GGUF = "model: a/b\ntargets:\n  gguf: "
CASES = [
    ("targets: {gguf: {quants: [F16]}}", "1: model: is missing", "Qwen/Qwen-7B-Chat"),
    ("model: a/b", "1: targets: is missing", "targets: {gguf: {quants: [Q4_K_M]}}"),
    ("model: a/b\ntargets: {}", "2: targets: is empty", "gguf"),
    ("model: a/b\ntargets:", "2: targets: is empty, but must be a mapping of options", "gguf"),
    ("model:\n" + SMALL[11:], "1: model: is empty, but must be text", "Qwen/"),
    ("model: a/b\ntargets: [gguf]", "2: targets: must be a mapping of options, not a list", "gguf"),
    (GGUF, "3: targets.gguf: is empty, but must be a mapping", "GGUF"),
    (GGUF + "{}", "3: targets.gguf: asks for nothing", "quants: [Q4_K_M, Q8_0]"),
    (GGUF + "{quants: []}", "3: targets.gguf.quants: is empty", "quants: [Q4_K_M, Q8_0]"),
    (GGUF + "{quants: Q4_0}", "3: targets.gguf.quants: must be a list, not 'Q4_0'", "[Q4_0]"),
    (GGUF + "{quants: [F16, F16]}", "3: targets.gguf.quants: F16 twice", "once"),
    (GGUF + "{quants: [q4_km]}", "3: targets.gguf.quants[0]: 'q4_km' is not known", "did you mean Q4_K_M?"),
    (GGUF + "[q4_km]", "3: targets.gguf[0]: 'q4_km' is not known", "did you mean Q4_K_M?"),
    (GGUF + "{quants: [F16], quant: 1}", "3: targets.gguf.quant: unknown key", "did you mean quants?"),
    (GGUF + "{quants: [F16], imatrix: 5}", "3: targets.gguf.imatrix: 5 is read as a number", '"5"'),
    (GGUF + "{quants: [F16], imatrix: no.dat}", "3: targets.gguf.imatrix: there is no file no.dat", "folder"),
    (
        GGUF + "\n    quants: [F16]\n    imatrix: calibration",
        "5: targets.gguf.imatrix: needs a calibration text, but the recipe has none",
        "calibration: {packs:",
    ),
    (GGUF + "{quants: [F16], split_max_size: 0G}", "3: targets.gguf.split_max_size: '0G' is not", "500M"),
    (GGUF + "{quants: [F16], split_max_size: 4GiB}", "3: targets.gguf.split_max_size: '4GiB' is not", "4G"),
    (GGUF + "{quants: [F16], split_max_size: 4}", "3: targets.gguf.split_max_size: 4 is read as", '"4"'),
    ("model: a/b\ntargets: {ggfu: {}}", "2: targets.ggfu: unknown format", "did you mean gguf?"),
    ("model: a/b\ntargets: {tpu: {bits: 4}}", "2: targets.tpu: unknown format", "known formats: gguf"),
    (SMALL + "revision: 0123456", "4: revision: 0123456 is read as a number", 'quotes: "0123456"'),
    (SMALL + "revision: 1e5", "4: revision: 1e5 is read as a number", '"1e5"'),
    (SMALL + "revision: 40e1234567890123", "4: revision: 40e1234567890123 is read", '"40e1234567890123"'),
    (SMALL + "revision: true", "4: revision: true is read as true or false", '"true"'),
    (SMALL + "revision: a b", "4: revision: 'a b' cannot be a revision", "branch"),
    (SMALL + "revision: -x", "4: revision: '-x' cannot be", "branch"),
    (SMALL.replace("a/b", "gpt2"), "1: model: 'gpt2' is neither", "owner/name"),
    (SMALL.replace("a/b", "a/../b"), "1: model: 'a/../b' is neither", "owner/name"),
    (SMALL.replace("a/b", "./b"), "1: model: there is no folder ./b", "the recipe's folder"),
    (SMALL.replace("a/b", "models/b"), "1: model: there is no folder models/b", "the recipe's folder"),
    (
        SMALL.replace("a/b", "https://huggingface.co/Qwen/Qwen-7B/tree/main"),
        "1: model: a URL",
        "Qwen/Qwen-7B",
    ),
    (SMALL + "calibration: {}", "4: calibration: no text to learn from", "packs"),
    (SMALL + "calibration: {text: a.txt}", "4: calibration.text: there is no file a.txt", "folder"),
    (SMALL + "calibration: {dataset: c/d, packs: [searchqa]}", "4: calibration: packs and dataset", "one of"),
    (
        SMALL + "calibration: {packs: [searchq]}",
        "4: calibration.packs[0]: 'searchq' is",
        "did you mean searchqa?",
    ),
    (
        SMALL + "calibration: {packs: [searchqa], samples: 0}",
        "4: calibration.samples: 0 is out",
        "at least 1",
    ),
    (SMALL + "calibration: {packs: [searchqa], seed: -1}", "4: calibration.seed: -1 is out", "at least 0"),
    (SMALL + 'calibration: {packs: [searchqa], seed: "1"}', "4: calibration.seed: '1' is text", "digits"),
    (
        SMALL + "calibration: {packs: [searchqa], length: 1.5}",
        "4: calibration.length: must be a whole",
        "Tokens",
    ),
    (SMALL + "verify: {gates: {top1: .nan}}", "4: verify.gates.top1: must be a finite number", "top-1"),
    (SMALL + "verify: {gates: {ppl_ratio: 0.9}}", "4: verify.gates.ppl_ratio: 0.9 is out", "at least 1"),
    (SMALL + "verify: {gates: {ttft_s: 0}}", "4: verify.gates.ttft_s: 0 is out", "above 0"),
    (SMALL + "verify: {scenarios: []}", "4: verify.scenarios: is empty", "[searchqa]"),
    (SMALL + "verify: {runtime: no.py}", "4: verify.runtime: there is no file no.py", "folder"),
    (SMALL + "verify: {runtime: a b}", "4: verify.runtime: 'a b' is not a runtime", "llama_cpp"),
    (SMALL + "verify: {runtime: {gguf: no.py}}", "4: verify.runtime: there is no file no.py", "folder"),
    (SMALL + "verify: {runtime: {zip: mine}}", "4: verify.runtime.zip: unknown format", "gguf"),
    (SMALL + "verify: {runtime: 5}", "4: verify.runtime: ", "runtime"),
    (SMALL + "verify: {serve: a b}", "4: verify.serve: 'a b' is not a server", "vllm"),
    (SMALL + "verify: {serve: {zip: vllm}}", "4: verify.serve.zip: unknown format", "gguf"),
    (SMALL + "verify: {runtime: [a]}", "4: verify.runtime: ", "runtime"),
    (SMALL + "publish: {repo: a/b, private: on}", "4: publish.private: must be true or false", "write true"),
    (SMALL + 'publish: {repo: "{usr}/x"}', "4: publish.repo: {usr} has no meaning", "{user}, {model}"),
    (SMALL + 'publish: {repo: "{user}"}', "4: publish.repo: '{user}' does not make", "{user}/{model}"),
]


@pytest.mark.parametrize(("text", "what", "hint"), CASES, ids=[case[1].split(": ", 1)[1] for case in CASES])
def test_a_fault_is_named_with_its_line_and_what_to_write(
    tmp_path: Path, text: str, what: str, hint: str
) -> None:
    found = faults(tmp_path, text)
    assert len(found) == 1, found
    assert found[0][0].startswith(what)
    assert hint in found[0][1]


def test_a_revision_of_a_local_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (what, _) = faults(tmp_path, SMALL.replace("a/b", "weights") + "revision: main\n")[0]
    assert what == "4: revision: a local folder has no revisions"


def test_a_file_of_one_line_of_findings_is_a_failure_like_any_other(tmp_path: Path) -> None:
    with pytest.raises(Failure) as raised:
        read(tmp_path, "model: a/b\n")
    assert str(raised.value) == f"{tmp_path}/r.yaml:1: targets: is missing"
    assert raised.value.exit_code == 2


def test_every_quant_that_can_be_asked_for_can_be_built() -> None:
    assert [quant.value for quant in Quant] == list(MIXTURES)
