"""`modelwright inspect`: show what an artifact, or a bare model file, holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convert.cli.deviations import Differing, deviations
from convert.cli.option import THREADS, VERBOSE, answering
from convert.cli.text import count, facts, one_line, parameters, table
from convert.deviation import count_matrices
from convert.errors import Exit
from convert.size import size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.cli.output import Output
    from convert.publish.provenance.check import Verified
    from convert.publish.provenance.test_result import Attested
    from convert.store import ArtifactReport, FileReport, SourceRecord


@answering
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--verify", "is_verified", is_flag=True, help="Read every file and compare its digest.")
@click.option(
    "--verify-signature",
    "is_signature_verified",
    is_flag=True,
    help="Check who signed what was published, and every file against what was signed.",
)
@click.option(
    "--key",
    metavar="PUBLIC.pem",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The publisher's public key, for --verify-signature.",
)
@click.option(
    "--attestation",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Check that PATH is what a verification judged, by its verification.intoto.json.",
)
@THREADS
@VERBOSE
def command(
    output: Output,
    path: Path,
    threads: int | None,
    key: Path | None,
    attestation: Path | None,
    *,
    is_verified: bool,
    is_signature_verified: bool,
    is_verbose: bool,
) -> Exit:
    """Show what an artifact or a model file holds.

    PATH is an artifact's folder, its manifest, or a .gguf or .safetensors file. With --verify
    the exit code is 1 where a file is not what the manifest says. With --verify-signature PATH is
    the folder that a published repo, or some artifacts of it, was downloaded to; the exit code is
    1 where it holds anything that the owner of --key did not sign. With --attestation the code is 1
    where PATH is not what was judged, and 3 where it did not pass.
    """
    from convert.store import ArtifactReport, inspect, inspect_artifact  # noqa: PLC0415 - pydantic

    if key and not is_signature_verified and not attestation:
        raise click.UsageError("--key is of use with --verify-signature or --attestation")
    if attestation:
        from convert.publish.provenance.test_result import check  # noqa: PLC0415 - for this alone

        attested = check(path, attestation, key)
        output.answer({**vars(attested), "passed": attested.passed}, lambda: _attested_lines(attested))
        return Exit.DONE if attested.passed else Exit.GATE_FAILED
    if is_signature_verified:
        from convert.publish.provenance.check import examine  # noqa: PLC0415 - for this alone

        verified = examine(path, key, threads=threads, progress=output.progress())
        output.answer(verified, lambda: _verified_lines(verified))
        return Exit.DONE
    report = inspect(path)
    if not isinstance(report, ArtifactReport):
        file = report
        if is_verified:
            raise click.UsageError(
                "a bare file has no digest to compare with; --verify takes an artifact's folder"
            )
        output.answer(file, lambda: _file_lines(file))
        return Exit.DONE
    if is_verified:
        with output.progress().stage("digest", report.manifest.size_bytes) as advance:
            report = inspect_artifact(report.path, verify=True, threads=threads, progress=advance)
    found = report
    output.answer(
        {**vars(found), "is_sound": found.is_sound}, lambda: _artifact_lines(found, is_verbose=is_verbose)
    )
    return Exit.DONE if found.is_sound else Exit.FAILED


def _attested_lines(found: Attested) -> Iterator[str]:
    yield from facts([("path", str(found.path)), ("signed by", found.key_id), ("artifact", found.artifact)])
    yield from (one_line(f"failed: {each}") for each in found.failed)
    yield from (one_line(f"inconclusive: {each}") for each in found.warned)
    verdict = "passed" if found.passed else "did not pass"
    yield f"{count(found.files, 'file')}, each as it was judged; the artifact {verdict}"


def _verified_lines(found: Verified) -> Iterator[str]:
    rows = [("folder", str(found.path)), ("signed by", found.key_id), ("artifacts", ", ".join(found.targets))]
    if found.absent:
        rows.append(("not here", f"{count(len(found.absent), 'file')} of the release"))
    if found.by_tools:
        rows.append(("unsigned", f"{', '.join(found.by_tools)}, which no runtime reads"))
    yield from facts(rows)
    yield f"{count(found.files, 'file')}, {size(found.size_bytes)}: each as it was signed"


def _artifact_lines(report: ArtifactReport, *, is_verbose: bool) -> Iterator[str]:
    from convert.store import REBUILT, Flaw  # noqa: PLC0415

    manifest = report.manifest
    encodings = Counter(manifest.tensors.values()).most_common()
    rows = [
        ("artifact", str(report.path)),
        ("target", manifest.target),
        ("source", _named(manifest.source)),
        *([("adapter", _named(manifest.adapter))] if manifest.adapter else []),
        ("license", manifest.license or "not stated by the source"),
        ("tensors", ", ".join(f"{number} × {encoding}" for encoding, number in encodings)),
        ("tools", ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items()))),
        ("key", manifest.key),
    ]
    yield from facts(rows)
    yield ""
    yield from table(
        ("file", "size", "sha256"),
        [(entry.path, size(entry.size_bytes), f"{entry.sha256[:16]}…") for entry in manifest.files],
        right="size",
    )
    count_of = manifest.model.parameter_count if manifest.model else None
    bits = 8 * manifest.size_bytes / count_of if count_of else None
    differing = Differing(manifest.deviations, count_matrices(manifest.tensors), bits)
    if said := list(deviations({manifest.target: differing}, is_verbose=is_verbose)):
        yield ""
        yield from said
    yield ""
    yield from (one_line(f"{each.path}: {each.flaw}") for each in report.differences)
    if any(each.flaw is Flaw.SHA256 for each in report.differences):
        yield REBUILT
    if report.is_sound:
        looked = (
            "every digest is right" if report.is_verified else "sizes are right; --verify compares digests"
        )
        yield f"{count(len(manifest.files), 'file')}, {size(report.size_bytes)}: {looked}"


def _named(record: SourceRecord) -> str:
    return f"{record.repo or 'a local folder'}{f' at {record.commit}' if record.commit else ''}"


def _file_lines(report: FileReport) -> Iterator[str]:
    rows = [
        ("file", str(report.path)),
        ("format", report.format),
        ("architecture", report.architecture or "not said"),
        ("size", f"{size(report.size_bytes)}, {parameters(report.parameters)}"),
        ("tensors", str(report.tensor_count)),
    ]
    yield from facts(rows)
    yield ""
    types = [
        (name, str(tally.tensors), f"{tally.parameters:,}", size(tally.size_bytes))
        for name, tally in report.types.items()
    ]
    yield from table(("type", "tensors", "parameters", "size"), types, right="tensors parameters size")
    if report.metadata:
        yield ""
        yield from facts([(key, " ".join(str(value).split())) for key, value in report.metadata.items()])
