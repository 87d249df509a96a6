"""The attestation of a verification: signed, of exactly these files, with a verdict that others can read."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from convert.cli import app
from convert.errors import Exit, Failure, UsageFailure
from convert.pipeline import attest, note_files
from convert.pipeline.run import Trial
from convert.publish.provenance.envelope import unseal
from convert.publish.provenance.key import KEY_VARIABLE, read_public
from convert.publish.provenance.test_result import NAME, TEST_RESULT_TYPE, check
from convert.source import Hub
from tests.provenance.publication import Keys, make_keys
from tests.verify import planting, reports
from verify.report import NAME as REPORT_NAME
from verify.report import write_json
from verify.task import Subject

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path)


def folders(home: Path) -> tuple[Subject, ...]:
    """Two artifacts of somebody's, one of them a single file."""
    (home / "good" / "parts").mkdir(parents=True)
    (home / "good" / "config.json").write_text("{}")
    (home / "good" / "parts" / "weights").write_bytes(b"1234")
    (home / "bad.gguf").write_bytes(b"GGUF")
    return Subject("good", home / "good"), Subject("bad.gguf", home / "bad.gguf")


def attested(home: Path, monkeypatch: pytest.MonkeyPatch, key: Path | None) -> Path:
    """Attest a verification of two artifacts, of which one failed."""
    if key:
        monkeypatch.setenv(KEY_VARIABLE, str(key))
    trial = Trial(
        hub=Hub.from_environment(is_offline=True),
        base=home,
        report_folder=home / "report",
        attests=True,
        subjects=folders(home),
    )
    trial = note_files(trial)
    given = reports.report(reports.artifact("good"), reports.artifact("bad.gguf", passed=False))
    write_json(home / "report" / REPORT_NAME, given)
    trial = attest(replace(trial, report=given))
    file = home / "report" / NAME
    assert trial.attestation == file
    return file


def test_others_can_check_it(tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    file = attested(tmp_path, monkeypatch, keys.private)
    sealed = unseal(file.read_bytes())
    assert sealed.is_signed_by(read_public(keys.public))
    statement = sealed.statement()
    assert statement["predicateType"] == TEST_RESULT_TYPE
    assert [each["name"] for each in statement["subject"]] == [
        "bad.gguf/bad.gguf",
        "good/config.json",
        "good/parts/weights",
    ]
    predicate = statement["predicate"]
    assert predicate["result"] == "FAILED"
    assert all(test.startswith("bad.gguf: ") for test in predicate["failedTests"])
    assert any(test.startswith("good: ") for test in predicate["passedTests"])
    good = check(tmp_path / "good", file, keys.public)
    assert (good.artifact, good.files, good.passed) == ("good", 2, True)
    assert not check(tmp_path / "bad.gguf", file, keys.public).passed
    words = ["--attestation", str(file), "--key", str(keys.public), "--quiet"]
    assert app.run(["inspect", str(tmp_path / "good"), *words]) == Exit.DONE
    assert app.run(["inspect", str(tmp_path / "bad.gguf"), *words]) == Exit.GATE_FAILED
    (tmp_path / "good" / "config.json").write_text("{ }")
    assert app.run(["inspect", str(tmp_path / "good"), *words]) == Exit.FAILED


def test_what_is_not_what_was_judged_is_refused(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = attested(tmp_path, monkeypatch, keys.private)
    good = tmp_path / "good"
    with pytest.raises(Failure, match="which nothing says you trust"):
        check(good, file, None)
    with pytest.raises(Failure, match="not signed by the key"):
        check(good, file, make_keys(tmp_path, seed=1).public)
    (good / "more.json").write_text("1")
    with pytest.raises(Failure, match=r"more\.json was not judged"):
        check(good, file, keys.public)
    (good / "more.json").unlink()
    (good / "config.json").unlink()
    with pytest.raises(Failure, match="are not here"):
        check(good, file, keys.public)
    (good / "config.json").write_text("{}")
    assert check(good, file, keys.public).passed
    (tmp_path / "report" / REPORT_NAME).write_text("{}")
    with pytest.raises(Failure, match="not the report that was signed"):
        check(good, file, keys.public)
    file.write_bytes(file.read_bytes().replace(b"a", b"b", 1))
    with pytest.raises(Failure):
        check(good, file, keys.public)


def test_files_that_change_meanwhile_are_not_attested(tmp_path: Path) -> None:
    trial = Trial(
        hub=Hub.from_environment(is_offline=True),
        base=tmp_path,
        report_folder=tmp_path / "report",
        attests=True,
        subjects=folders(tmp_path),
    )
    trial = note_files(trial)
    (tmp_path / "bad.gguf").write_bytes(b"GGUF2")
    with pytest.raises(Failure, match=r"bad\.gguf: its files changed"):
        attest(trial)
    with pytest.raises(UsageFailure, match="next to the report"):
        note_files(replace(trial, report_folder=None))
    with pytest.raises(UsageFailure, match="shows no files"):
        note_files(replace(trial, subjects=(Subject("x", "http://localhost:1"),)))


def test_without_a_key_it_is_a_bare_statement(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = attested(tmp_path, monkeypatch, None)
    assert json.loads(file.read_bytes())["predicateType"] == TEST_RESULT_TYPE
    with pytest.raises(Failure, match="not signed, so anybody can have made it"):
        check(tmp_path / "good", file, keys.public)


@pytest.mark.slow  # a whole verification
def test_anybody_s_file_is_verified_and_attested_by_one_command(
    tmp_path: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    planting.make_source(tmp_path / "source")
    planting.write_pack(tmp_path / "pack.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(KEY_VARIABLE, str(keys.private))
    assert app.run(["convert", "source", "--to", "gguf:F16", "--quiet"]) == Exit.DONE
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (file,) = (tmp_path / "artifacts").rglob("*.gguf")
    (theirs / "somebody-F16.gguf").write_bytes(file.read_bytes())
    words = ["--source", "source", "--scenarios", "pack.yaml", "--report", "report", "--attest", "--quiet"]
    found = app.run(["verify", "theirs", *words])
    assert (tmp_path / "report" / "report.html").is_file()
    attestation = ["--attestation", f"report/{NAME}", "--key", str(keys.public), "--quiet"]
    assert app.run(["inspect", "theirs", *attestation]) == found
    assert found in (Exit.DONE, Exit.GATE_FAILED)
    result = json.loads((tmp_path / "report" / REPORT_NAME).read_text("utf-8"))
    assert (found == Exit.DONE) == result["passed"]
