"""A verification as an in-toto attestation, for artifacts of anybody: which files were judged, and how."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import Failure
from convert.publish.provenance.envelope import STATEMENT_TYPE, MalformedError, unseal
from convert.publish.provenance.key import KEY_VARIABLE, read_public
from convert.store.digest import digest_files
from convert.store.fault import explained
from verify.report import NAME as REPORT_NAME
from verify.report import Report

NAME = "verification.intoto.json"
TEST_RESULT_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
# The specification's words for our verdicts.
RESULTS = {"passed": "PASSED", "inconclusive": "WARNED", "failed": "FAILED"}

Files = Mapping[str, Mapping[str, str]]  # by artifact: the sha256 of each path in it


def test_result(report: Report, report_data: bytes, files: Files) -> dict[str, Any]:
    """Make the statement that these files were judged with this report."""
    subjects = {
        f"{_plain(name)}/{path}": sha256 for name, own in files.items() for path, sha256 in own.items()
    }
    by_verdict: dict[str, list[str]] = {"passed": [], "inconclusive": [], "failed": []}
    for artifact in report.artifacts:
        for check in artifact.checks:
            by_verdict["passed" if check.passed else "failed"].append(
                f"{_plain(artifact.name)}: {check.name}"
            )
        by_verdict["inconclusive"] += (f"{_plain(artifact.name)}: {gate}" for gate in artifact.unmeasured)
    source = report.source
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)],
        "predicateType": TEST_RESULT_TYPE,
        "predicate": {
            "result": RESULTS[report.verdict],
            "configuration": [
                {"name": REPORT_NAME, "digest": {"sha256": hashlib.sha256(report_data).hexdigest()}},
                {
                    "name": "source",
                    "digest": {"sha256": source.digest},
                    "annotations": {"repo": source.repo, "commit": source.commit},
                },
                {"name": "modelwright", "annotations": {"version": report.tool, "revision": report.revision}},
            ],
            "passedTests": by_verdict["passed"],
            "warnedTests": by_verdict["inconclusive"],
            "failedTests": by_verdict["failed"],
        },
    }


@dataclass(frozen=True)
class Attested:
    """What an attestation says of a folder, whose files are all its own."""

    path: Path
    artifact: str
    result: str  # PASSED, WARNED or FAILED
    key_id: str
    files: int
    failed: tuple[str, ...]
    warned: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Return whether the artifact itself passed, whatever became of others in the same report."""
        return not self.failed and not self.warned


def check(path: Path, attestation: Path, key: Path | None) -> Attested:
    """Check who signed an attestation, and that a file or a folder is exactly what was judged."""
    with explained(attestation):
        data = attestation.read_bytes()
    with _intact(attestation):
        sealed = unseal(data)
    if sealed.signature is None:
        raise Failure(
            f"{attestation}: not signed, so anybody can have made it", f"its maker signs with {KEY_VARIABLE}"
        )
    if key is None:
        raise Failure(
            f"{attestation}: signed by the key {sealed.key_id}, which nothing says you trust",
            "get the public key of its maker from elsewhere, and name its file with --key",
        )
    public = read_public(key)
    if not sealed.is_signed_by(public):
        raise Failure(f"{attestation}: not signed by the key {public.key_id}", "do not trust it")
    with _intact(attestation):
        by_artifact, predicate = _read(sealed.statement(), attestation)
    found = digests_of(path)
    name = next((each for each, own in by_artifact.items() if set(own.values()) == set(found.values())), None)
    if name is None:
        known = {sha256 for own in by_artifact.values() for sha256 in own.values()}
        other = next((each for each, sha256 in found.items() if sha256 not in known), None)
        what = f"{other} was not judged" if other else "files that were judged are not here"
        raise Failure(f"{path}: {what}", "get the artifact again, whole, or an attestation of this one")
    report = attestation.with_name(REPORT_NAME)
    if report.is_file() and _report_digest(predicate) != hashlib.sha256(report.read_bytes()).hexdigest():
        raise Failure(f"{report}: not the report that was signed", "get it again from who made it")
    failed, warned = (
        tuple(test for test in predicate.get(kind, ()) if str(test).startswith(f"{name}: "))
        for kind in ("failedTests", "warnedTests")
    )
    return Attested(path, name, str(predicate["result"]), public.key_id, len(found), failed, warned)


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    try:
        yield
    except MalformedError as error:
        raise Failure(f"{path}: {error}", "get it again from who made it") from None


def digests_of(path: Path) -> dict[str, str]:
    """Digest a file, or every file of a folder but those that the Hub's tools put there."""
    with explained(path):
        files = [path] if path.is_file() else [each for each in sorted(path.rglob("*")) if each.is_file()]
        names = {each: each.name if each == path else each.relative_to(path).as_posix() for each in files}
        kept = [each for each in files if names[each].partition("/")[0] not in (".cache", ".git")]
        found = digest_files([each.resolve(strict=True) for each in kept])
        return {names[each]: found[each.resolve()].sha256 for each in kept if each.name != NAME}


def _read(statement: dict[str, Any], path: Path) -> tuple[dict[str, dict[str, str]], dict[str, Any]]:
    by_artifact: dict[str, dict[str, str]] = defaultdict(dict)
    match statement:
        case {"predicateType": str(kind), "subject": list(subjects), "predicate": dict(predicate)} if (
            kind == TEST_RESULT_TYPE and predicate.get("result") in RESULTS.values()
        ):
            for each in subjects:
                match each:
                    case {"name": str(name), "digest": {"sha256": str(sha256)}}:
                        artifact, _, file = name.partition("/")
                        by_artifact[artifact][file] = sha256
                    case _:
                        raise Failure(f"{path}: a subject of the statement is not a file")
            return dict(by_artifact), predicate
    raise Failure(f"{path}: not the attestation of a verification")


def _plain(name: str) -> str:
    """Return an artifact's name without the marks between folders; some are named by their paths."""
    return name.strip("./").replace("/", "_")


def _report_digest(predicate: dict[str, Any]) -> str | None:
    for each in predicate.get("configuration", ()):
        match each:
            case {"name": name, "digest": {"sha256": str(sha256)}} if name == REPORT_NAME:
                return sha256
    return None
