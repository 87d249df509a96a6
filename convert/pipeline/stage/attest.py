"""Attest a verification: digest what is judged before and after, and sign what was found."""

from dataclasses import replace
from pathlib import Path

from convert.errors import Failure, UsageFailure
from convert.pipeline.run import AnyTrial
from convert.publish.provenance.envelope import seal
from convert.publish.provenance.key import signer_from_environment
from convert.publish.provenance.test_result import NAME, digests_of, test_result
from verify.report import NAME as REPORT_NAME
from verify.report import read, write


def note_files(trial: AnyTrial) -> AnyTrial:
    """Digest the files of every artifact before it is opened, if an attestation is wanted."""
    if not trial.attests:
        return trial
    if trial.report_folder is None:
        raise UsageFailure("--attest writes next to the report", "name its folder with --report")
    return replace(trial, digests=_digests(trial))


def attest(trial: AnyTrial) -> AnyTrial:
    """Write the attestation next to the report; the files must be those that were there before."""
    if not trial.attests or trial.report_folder is None:
        return trial
    if (found := _digests(trial)) != trial.digests:
        changed = next(name for name in found if found[name] != trial.digests.get(name))
        raise Failure(f"{changed}: its files changed while they were judged", "verify it again")
    path = trial.report_folder / REPORT_NAME
    report = read(path)
    judged = [each for each in report.artifacts if each.name in found]  # earlier results may be there, too
    report = report.model_copy(update={"artifacts": tuple(judged)})
    statement = test_result(report, path.read_bytes(), found)
    write(trial.report_folder / NAME, seal(statement, signer_from_environment()))
    return replace(trial, attestation=trial.report_folder / NAME)


def _digests(trial: AnyTrial) -> dict[str, dict[str, str]]:
    for each in trial.subjects:
        if not isinstance(each.path, Path):
            raise UsageFailure(
                f"{each.path}: a server shows no files that could be attested", "leave out --attest"
            )
    return {each.name: digests_of(Path(each.path)) for each in trial.subjects}
