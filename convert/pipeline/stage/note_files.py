"""Note the files of what is to be judged, if an attestation is wanted."""

from dataclasses import replace
from pathlib import Path

from convert.errors import UsageFailure
from convert.pipeline.run import AnyTrial
from convert.publish.provenance.test_result import digests_of


def note_files(trial: AnyTrial) -> AnyTrial:
    """Digest the files of every artifact before it is opened, if an attestation is wanted."""
    if not trial.attests:
        return trial
    if trial.report_folder is None:
        raise UsageFailure("--attest writes next to the report", "name its folder with --report")
    return replace(trial, digests=digests_now(trial))


def digests_now(trial: AnyTrial) -> dict[str, dict[str, str]]:
    """Digest every file of every artifact."""
    for each in trial.subjects:
        if not isinstance(each.path, Path):
            raise UsageFailure(
                f"{each.path}: a server shows no files that could be attested", "leave out --attest"
            )
    return {each.name: digests_of(Path(each.path)) for each in trial.subjects}
