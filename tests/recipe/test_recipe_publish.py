"""What a recipe may say of publishing, and what may be waived."""

from pathlib import Path

import pytest

from convert.errors import UsageFailures
from convert.formats.gguf.options import GgufOptions
from convert.recipe import Recipe, load

SMALL = "model: a/b\ntargets:\n  gguf: {quants: [Q8_0]}\n"


def read(folder: Path, publish: str) -> Recipe:
    file = folder / "r.yaml"
    file.write_text(f"{SMALL}{publish}\n", encoding="utf-8")
    return load(file, {"gguf": GgufOptions})


def fault(folder: Path, publish: str) -> tuple[str, str]:
    with pytest.raises(UsageFailures) as raised:
        read(folder, publish)
    (problem,) = raised.value.problems
    return problem.message.partition(":4: ")[2], problem.hint


def test_a_repo_of_ones_own_private_on_main_is_what_is_meant(tmp_path: Path) -> None:
    found = read(tmp_path, "publish: {}").publish
    assert found is not None
    assert (found.repo, found.private, found.branch) == ("{user}/{model}-{target}", True, "main")
    assert (found.tag, found.collection, found.to, found.waive) == (None, None, None, ())
    assert not found.pull_request


def test_a_waiver_has_a_gate_and_a_reason(tmp_path: Path) -> None:
    found = read(tmp_path, 'publish: {waive: [{gate: top1, reason: " two bits "}]}').publish
    assert found is not None
    assert [(each.gate, each.reason, each.target) for each in found.waive] == [("top1", "two bits", None)]


@pytest.mark.parametrize(
    ("waiver", "what", "hint"),
    [
        ("{gate: digests, reason: no}", "'digests' is not a gate, and only gates can be waived", "a gate is"),
        ("{gate: opens, reason: no}", "'opens' is not a gate, and only gates can be waived", "a gate is"),
        ("{gate: size_ratio, reason: no}", "'size_ratio' is not a gate", "did you mean ppl_ratio?"),
        ("{gate: kl_men, reason: no}", "'kl_men' is not a gate", "did you mean kl_mean?"),
        ("{gate: top1}", "is missing", "for tests only"),
        ('{gate: top1, reason: "  "}', "no reason is given", "give the reason"),
        ('{gate: top1, reason: ""}', "no reason is given", "give the reason"),
        ('{gate: top1, reason: "a\\nb"}', "must be one line of text", "line breaks"),
    ],
)
def test_nothing_but_a_gate_is_waived_and_never_without_a_reason(
    tmp_path: Path, waiver: str, what: str, hint: str
) -> None:
    found, advice = fault(tmp_path, f"publish: {{waive: [{waiver}]}}")
    assert what in found
    assert hint in advice


def test_a_gate_is_waived_once_for_all_or_once_for_each_artifact(tmp_path: Path) -> None:
    one, other = "{gate: top1, reason: a}", "{gate: top1, reason: b, target: gguf-Q8_0}"
    assert read(tmp_path, f"publish: {{waive: [{one}, {other}]}}").publish
    assert "top1 twice" in fault(tmp_path, f"publish: {{waive: [{one}, {one}]}}")[0]


@pytest.mark.parametrize("other", ["branch: dev", "tag: v1"])
def test_a_pull_request_goes_to_main_and_has_no_tag(tmp_path: Path, other: str) -> None:
    assert "a pull request" in fault(tmp_path, f"publish: {{pull_request: true, {other}}}")[0]


@pytest.mark.parametrize("idle", ["pull_request: true", "collection: Mine"])
def test_what_only_the_hub_has_is_not_asked_of_another_place(tmp_path: Path, idle: str) -> None:
    what, hint = fault(tmp_path, f"publish: {{to: ./shelf, {idle}}}")
    assert "only the Hub has a" in what
    assert "remove" in hint


def test_only_what_is_built_and_judged_is_in_the_digest(tmp_path: Path) -> None:
    bare = read(tmp_path, "").asked_sha256
    assert read(tmp_path, "# a remark\npublish: {private: false}").asked_sha256 == bare
    assert read(tmp_path, "verify: {gates: {top1: 0.5}}").asked_sha256 != bare
    assert read(tmp_path, "verify: {runtime: llama_cpp}").asked_sha256 != bare
    assert read(tmp_path, "verify: {serve: vllm}").asked_sha256 != bare
    other = tmp_path / "other.yaml"
    other.write_text(SMALL.replace("Q8_0", "Q6_K"), encoding="utf-8")
    assert load(other, {"gguf": GgufOptions}).asked_sha256 != bare
