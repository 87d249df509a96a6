"""Every figure on the card is the report's, and what was not measured is shown as such."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from convert.deviation import Deviation
from convert.publish.bundle import Waiver
from convert.publish.card.facts import gather
from convert.publish.card.figures import QUALITY, SPEED
from convert.publish.card.label import label
from convert.publish.provenance.check import examine
from convert.publish.provenance.statement import release
from tests.provenance.publication import make_keys
from tests.publish_card.cards import QUANTS, of_hub
from verify.circumstances import Circumstances
from verify.gates import Check
from verify.report import words
from verify.sample import Spread

if TYPE_CHECKING:
    from pathlib import Path

    from convert.publish.bundle import Candidate
    from tests.publish_card.cards import Artifacts, Card

UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "%": 0.01, "×": 1, "s": 1, "tokens/s": 1, "": 1}


def number(cell: str) -> float:
    """A cell back as what it stands for."""
    found = re.fullmatch(r"([0-9.,]+(?:e-?[0-9]+)?)\s?(\D*)", cell)
    assert found, cell
    return float(found[1].replace(",", "")) * UNITS[found[2]]


def named(card: Card, title: str) -> dict[str, list[str]]:
    """A table's rows by what stands first in them."""
    head, *rows = card.table(title)
    assert head == ([*QUALITY[:-1], "Needs at 1k", QUALITY[-1]] if title == "Files" else list(SPEED))
    return {row[0]: row[1:] for row in rows}


def test_the_first_tables_figures_are_the_reports(card: Card) -> None:
    rows = named(card, "Files")
    for candidate in card.bundle.candidates:
        quality, scenarios = candidate.result.quality, candidate.result.scenarios
        assert quality is not None
        assert scenarios is not None
        size, width, kl, top1, ratio, smoke, needs, verdict = rows[candidate.manifest.files[0].path]
        assert number(size) == pytest.approx(candidate.manifest.size_bytes, rel=0.005)
        assert number(ratio) == pytest.approx(quality.ppl_ratio, abs=0.0005)
        assert kl == words.number(quality.kl_mean)
        assert number(kl) == pytest.approx(quality.kl_mean, abs=0.0005)
        assert number(top1) == pytest.approx(quality.top1, abs=0.0005)
        assert number(smoke) == pytest.approx(scenarios.smoke, abs=0.0005)
        assert verdict == "passed"
        told = candidate.manifest.model
        assert told is not None
        bits = 8 * candidate.manifest.size_bytes / told.parameter_count
        assert float(width) == pytest.approx(bits, abs=0.06)
        # The window is smaller than 4,096, so there is one figure: the weights, the cache, and the runtime.
        assert candidate.manifest.size_bytes < number(needs) < candidate.manifest.size_bytes + 250e6
    source = card.bundle.report.source
    assert source.scenarios is not None
    assert number(rows["the source"][0]) == pytest.approx(source.size_bytes, rel=0.005)
    assert number(rows["the source"][5]) == pytest.approx(source.scenarios.smoke)


def test_the_second_tables_figures_are_the_reports(card: Card) -> None:
    rows = named(card, "Speed and memory")
    for candidate in card.bundle.candidates:
        speed, memory = candidate.result.speed, candidate.result.memory
        assert speed is not None
        assert memory is not None
        assert speed.prefill_tok_s is not None
        assert speed.decode_tok_s is not None
        peak, load, first, reading, writing = map(number, rows[label(candidate)])
        assert peak == pytest.approx(memory.peak_rss_bytes, rel=0.005)
        assert load == pytest.approx(speed.load_s.median, rel=0.005, abs=0.0005)
        assert first == pytest.approx(speed.ttft_s.median, rel=0.005, abs=0.0005)
        assert reading == pytest.approx(speed.prefill_tok_s.median, rel=0.005)
        assert writing == pytest.approx(speed.decode_tok_s.median, rel=0.005)


def test_the_machine_is_told_by_what_matters_alone(card: Card) -> None:
    found = card.section("Speed and memory")
    machine = card.bundle.report.machine
    assert f"{machine.cpu.replace('@', '@')}, 2 cores, 8.59 GB of memory, Some GPU" in found
    assert machine.system not in card.readme


def test_smaller_files_come_first(card: Card) -> None:
    sizes = [number(row[1]) for row in card.table("Files")[1:-1]]
    assert sizes == sorted(sizes)
    assert len(sizes) == len(QUANTS)


def test_each_file_is_linked(card: Card) -> None:
    paths = {file.path for file in card.bundle.files} | set(card.made)
    linked = re.findall(r"\]\(([^)]+)\)", card.body)
    local = [each for each in linked if not each.startswith("http")]
    assert set(local) <= paths
    assert {each.manifest.files[0].path for each in card.bundle.candidates} <= set(local)


@pytest.mark.parametrize("missing", ["quality", "speed", "memory", "scenarios", "opened"])
def test_what_was_not_measured_is_a_dash_and_is_said(artifacts: Artifacts, missing: str) -> None:
    whole, bare = artifacts.candidate("gguf-Q6_K"), artifacts.candidate("gguf-Q8_0")
    card = artifacts.card(whole, replace(bare, result=bare.result.model_copy(update={missing: None})))
    quality, speed = named(card, "Files")["tiny-qwen-Q8_0.gguf"], named(card, "Speed and memory")["Q8_0"]
    assert (words.NONE in quality[2:5]) == (missing == "quality")
    assert (quality[5] == words.NONE) == (missing == "scenarios")
    assert (speed[0] == words.NONE) == (missing == "memory")
    assert (speed[1:] == [words.NONE] * 4) == (missing == "speed")
    said = {"scenarios": "dialogues"}.get(missing, missing)
    assert (f"Not measured of `Q8_0`: {said}" in card.section("Limits")) == (missing != "opened")
    assert "`Q6_K`:" not in card.section("Limits")


def test_nothing_measured_at_all_still_makes_a_card(artifacts: Artifacts) -> None:
    gone = dict.fromkeys(("quality", "speed", "memory", "scenarios", "opened"))
    candidate = artifacts.candidate()
    bare = replace(candidate, result=candidate.result.model_copy(update=gone))
    card = artifacts.card(bare)
    assert card.section("Speed and memory").strip() == "Not measured."
    assert "quality.svg" not in card.made
    assert "quality.svg" not in card.readme
    assert named(card, "Files")["tiny-qwen-Q8_0.gguf"][2:6] == [words.NONE] * 4


def test_the_page_goes_with_the_card_and_is_linked(card: Card) -> None:
    assert "[report.html](report.html)" in card.section("Files")
    page = card.made["report.html"].decode()
    assert page.startswith("<!doctype html>")
    assert all(f">{each.target}</a>" in page for each in card.bundle.candidates)


def test_speeds_of_a_busy_machine_come_with_a_caution(artifacts: Artifacts) -> None:
    candidate = artifacts.candidate()
    assert candidate.result.speed
    even = replace(candidate.result.speed, prefill_tok_s=None, decode_tok_s=Spread(25.0, 24.5, 25.5, 6))
    busy = replace(even, circumstances=Circumstances("2026-11-26", 1.5, 2))
    for speed, caution in (
        (even, ""),
        (busy, "with caution: Q8\\_0: other programs kept 1.5 of 2 cores busy"),
    ):
        result = candidate.result.model_copy(update={"speed": speed})
        said = artifacts.card(replace(candidate, result=result)).section("Speed and memory")
        assert caution in said.replace("&#95;", "\\_")
        assert ("caution" in said) == bool(caution)


def waived(candidate: Candidate, reason: str = "two bits are asked for") -> Candidate:
    """The same, with a gate that it failed."""
    check = Check(
        "kl_mean", 0.31, 0.05, passed=False, why="its odds are 0.31 nats from the source's on average"
    )
    result = candidate.result.model_copy(update={"checks": (*candidate.result.checks, check)})
    return replace(candidate, result=result, waived=(Waiver("kl_mean", reason), Waiver("ttft_s", "no time")))


def test_what_was_waived_is_said_first_and_with_its_reason(artifacts: Artifacts) -> None:
    card = artifacts.card(waived(artifacts.candidate("gguf-Q6_K")), artifacts.candidate("gguf-Q8_0"))
    rows = named(card, "Files")
    assert rows["tiny-qwen-Q6_K.gguf"][-1] == "waived: kl_mean, ttft_s"
    assert rows["tiny-qwen-Q8_0.gguf"][-1] == "passed"
    before = card.body.split("## Files")[0]
    assert "Not every gate was passed" in before
    assert "0.31 nats" in before
    assert "limit 0.050" in before
    assert "two bits are asked for" in before
    assert "it was not measured" in before  # the other one


def test_commands_name_a_file_that_needed_no_waiver(artifacts: Artifacts) -> None:
    card = artifacts.card(waived(artifacts.candidate("gguf-Q6_K")), artifacts.candidate("gguf-Q8_0"))
    assert all("Q6_K" not in block for block in card.blocks("sh"))


def test_no_waiver_no_warning(card: Card) -> None:
    assert "Not every gate" not in card.readme


def test_tensors_alike_in_their_deviation_are_told_once(artifacts: Artifacts) -> None:
    many = tuple(
        Deviation(
            subject=f"blk.{n}.ffn_down.weight", wanted="Q4_K", got="Q5_0", why="5504 columns are no blocks"
        )
        for n in range(24)
    )
    candidate = artifacts.candidate("gguf-Q6_K", manifest={"deviations": many})
    found = artifacts.card(candidate, artifacts.candidate("gguf-Q8_0")).section("Deviations")
    line = next(line for line in found.splitlines() if "ffn_down" in line)
    assert line.startswith(
        "- `blk.*.ffn_down.weight` (24 tensors) in `Q6_K`: Q5&#95;0 instead of Q4&#95;K, because 5504"
    )
    assert found.count("ffn_down") == 1


def test_tensors_are_counted_for_each_artifact_by_itself(artifacts: Artifacts) -> None:
    many = tuple(
        Deviation(subject=f"blk.{n}.ffn_down.weight", wanted="Q4_K", got="Q5_0", why="5504 is odd")
        for n in range(24)
    )
    one, other = (
        artifacts.candidate(name, manifest={"deviations": many[:count]})
        for name, count in (("gguf-Q6_K", 24), ("gguf-Q8_0", 3))
    )
    found = artifacts.card(one, other).section("Deviations")
    assert "`blk.*.ffn_down.weight` (24 tensors) in `Q6_K`:" in found
    assert "`blk.*.ffn_down.weight` (3 tensors) in `Q8_0`:" in found


def test_a_window_shorter_than_the_models_is_said(artifacts: Artifacts) -> None:
    candidate = artifacts.candidate()
    assert candidate.result.opened is not None
    opened = candidate.result.opened.model_copy(update={"context": 12})
    short = replace(candidate, result=candidate.result.model_copy(update={"opened": opened}))
    context = gather(candidate).context
    assert f"window of 12 tokens, where the model has {context:,}" in artifacts.card(short).section("Limits")


def test_what_was_learnt_is_not_said_to_be_the_same_bytes(artifacts: Artifacts) -> None:
    learnt = Deviation(
        subject="imatrix",
        wanted="the same bits on every CPU",
        got="on CPUs of one kind",
        why="it was learnt here",
    )
    calibration = {"source": "searchqa", "tokens": 256, "sha256": "0" * 64}
    options = {"quant": "Q8_0", "imatrix": "calibration", "split_max_bytes": None, "calibration": calibration}
    found = artifacts.card(
        artifacts.candidate(manifest={"deviations": (learnt,), "options": options})
    ).section("Make it again")
    assert "same bytes" not in found
    assert "to the bit on machines of one kind" in found
    assert (
        "Options of `Q8_0`: imatrix calibration, calibration source searchqa, calibration tokens 256."
        in found
    )
    assert "the same bytes again" in artifacts.card().section("Make it again")
    assert "Options of" not in artifacts.card().section("Make it again")


def test_the_source_is_named_by_its_commit(artifacts: Artifacts) -> None:
    hub = of_hub(artifacts.candidate().manifest)
    card = artifacts.card(artifacts.candidate(manifest=hub))
    commit = hub["source"].commit
    assert f"https://huggingface.co/Acme/Base-0.5B-Chat/tree/{commit}" in card.body.split("## Files")[0]
    assert f"`revision: {commit}`" in card.section("Make it again")
    assert card.bundle.candidates[0].manifest.recipe.splitlines()[1] in card.section("Make it again")


def test_languages_are_those_of_the_sources_card(artifacts: Artifacts) -> None:
    assert "names them: `zh`, `en`." in artifacts.card().section("Prompt")
    assert "Languages" not in artifacts.card(card={}).section("Prompt")


def test_digests_can_be_checked_by_sha256sum(card: Card) -> None:
    (block,) = [block for block in card.section("Check").split("```") if "tiny-qwen" in block]
    found = {path: digest for digest, path in (line.split("  ") for line in block.strip().splitlines())}
    wanted = {file.path: file.sha256 for each in card.bundle.candidates for file in each.manifest.files}
    assert found == wanted


def test_who_signed_is_said(artifacts: Artifacts, tmp_path: Path) -> None:
    unsigned = artifacts.card().section("Check")
    assert "not signed" in unsigned
    assert "--verify-signature" not in unsigned
    signer = make_keys(tmp_path).signer
    signed = artifacts.card(signer=signer).section("Check")
    assert f"the key `{signer.key_id}`" in signed
    assert "modelwright inspect --verify-signature --key public.pem tiny-GGUF" in signed


@pytest.mark.parametrize("targets", [QUANTS, ("onnx-int4-cpu", "onnx-fp32-cpu"), ("hf",)])
def test_what_the_check_downloads_can_be_checked(
    artifacts: Artifacts, tmp_path: Path, targets: tuple[str, ...]
) -> None:
    keys = make_keys(tmp_path)
    card = artifacts.card(*map(artifacts.candidate, targets), signer=keys.signer)
    whole = card.bundle.with_made(card.made)
    files = {file.path: file.read() for file in whole.with_made(release(whole, keys.signer)).files}
    download, inspect = card.commands[-3:-1]
    assert download[:3] == ["hf", "download", card.bundle.repo]
    for path in download[3:-2] or files:
        place = tmp_path / download[-1] / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(files[path])
    vouched = examine(tmp_path / inspect[-1], keys.public, threads=1)
    assert vouched.key_id == keys.signer.key_id
    assert set(vouched.targets) <= set(targets)
    assert vouched.targets
