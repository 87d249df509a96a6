"""Attest a verification: compare what was judged with what was there before, and sign what was found."""

from dataclasses import replace

from convert.errors import Failure
from convert.pipeline.run import AnyTrial
from convert.pipeline.stage.note_files import digests_now
from convert.publish.provenance.envelope import seal
from convert.publish.provenance.key import signer_from_environment
from convert.publish.provenance.test_result import NAME, test_result
from verify.report import NAME as REPORT_NAME
from verify.report import read, write


def attest(trial: AnyTrial) -> AnyTrial:
    """Write the attestation next to the report; the files must be those that were there before."""
    if not trial.attests or trial.report_folder is None:
        return trial
    if (found := digests_now(trial)) != trial.digests:
        changed = next(name for name in found if found[name] != trial.digests.get(name))
        raise Failure(f"{changed}: its files changed while they were judged", "verify it again")
    path = trial.report_folder / REPORT_NAME
    report = read(path)
    judged = [each for each in report.artifacts if each.name in found]  # earlier results may be there, too
    report = report.model_copy(update={"artifacts": tuple(judged)})
    statement = test_result(report, path.read_bytes(), found)
    write(trial.report_folder / NAME, seal(statement, signer_from_environment()))
    return replace(trial, attestation=trial.report_folder / NAME)
