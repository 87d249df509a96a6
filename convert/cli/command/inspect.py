"""`modelwright inspect`: show what an artifact, or a bare model file, holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.cli.option import THREADS, answering
from convert.errors import Exit
from convert.size import size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.cli.output import Output
    from convert.publish.provenance import Verified
    from convert.store import ArtifactReport, FileReport


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
@THREADS
def command(
    output: Output,
    path: Path,
    threads: int | None,
    key: Path | None,
    *,
    is_verified: bool,
    is_signature_verified: bool,
) -> Exit:
    """Show what an artifact or a model file holds.

    PATH is an artifact's folder, its manifest, or a .gguf or .safetensors file. With --verify
    the exit code is 1 where a file is not what the manifest says. With --verify-signature PATH is
    the folder that a published repo, or some artifacts of it, was downloaded to; the exit code is
    1 where it holds anything that the owner of --key did not sign.
    """
    from convert.store import ArtifactReport, inspect, inspect_artifact, read_manifest  # noqa: PLC0415 - pydantic

    if key and not is_signature_verified:
        raise click.UsageError("--key is of use with --verify-signature alone")
    if is_signature_verified:
        return _examine(output, path, key, threads)
    report = inspect(path)
    if isinstance(report, ArtifactReport):
        if is_verified:
            total_bytes = read_manifest(report.path).size_bytes
            with output.progress().stage("digest", total_bytes) as advance:
                report = inspect_artifact(report.path, verify=True, threads=threads, progress=advance)
        found = report
        output.answer(_artifact_data(found), lambda: _artifact_lines(found))
        return Exit.DONE if found.is_sound else Exit.FAILED
    if is_verified:
        raise click.UsageError(
            "a bare file has no digest to compare with; --verify takes an artifact's folder"
        )
    file = report
    output.answer(_file_data(file), lambda: _file_lines(file))
    return Exit.DONE


def _examine(output: Output, path: Path, key: Path | None, threads: int | None) -> Exit:
    """Check that what is here is what was published."""
    from convert.publish.provenance import examine  # noqa: PLC0415 - pydantic

    vouched = examine(path, key, threads=threads, progress=output.progress())
    output.answer(vouched, lambda: _vouched_lines(vouched))
    return Exit.DONE


def _vouched_lines(vouched: Verified) -> Iterator[str]:
    from convert.cli.text import count, facts  # noqa: PLC0415

    said = [
        ("folder", str(vouched.path)),
        ("signed by", vouched.key_id),
        ("artifacts", ", ".join(vouched.targets)),
    ]
    if vouched.absent:
        said.append(("not here", f"{count(len(vouched.absent), 'file')} of the release"))
    if vouched.by_tools:
        said.append(("unsigned", f"{', '.join(vouched.by_tools)}, which no runtime reads"))
    yield from facts(said)
    yield f"{count(vouched.files, 'file')}, {size(vouched.size_bytes)}: each as it was signed"


def _artifact_data(report: ArtifactReport) -> dict[str, Any]:
    return {
        "path": report.path,
        "size_bytes": report.size_bytes,
        "is_verified": report.is_verified,
        "is_sound": report.is_sound,
        "differences": report.differences,
        "manifest": report.manifest,
    }


def _artifact_lines(report: ArtifactReport) -> Iterator[str]:
    from convert.cli.deviations import deviations  # noqa: PLC0415
    from convert.cli.text import count, facts, one_line, table  # noqa: PLC0415
    from convert.store import REBUILT, Flaw  # noqa: PLC0415

    manifest = report.manifest
    commit = f" at {manifest.source.commit}" if manifest.source.commit else ""
    encodings = Counter(manifest.tensors.values()).most_common()
    said = [
        ("artifact", str(report.path)),
        ("target", manifest.target),
        ("source", f"{manifest.source.repo or 'a local folder'}{commit}"),
        ("license", manifest.license or "not stated by the source"),
        ("tensors", ", ".join(f"{number} × {encoding}" for encoding, number in encodings)),
        ("tools", ", ".join(f"{name} {version}" for name, version in sorted(manifest.tools.items()))),
        ("key", manifest.key),
    ]
    yield from facts(said)
    yield ""
    yield from table(
        ("file", "size", "sha256"),
        [(entry.path, size(entry.size_bytes), f"{entry.sha256[:16]}…") for entry in manifest.files],
        right="size",
    )
    if manifest.deviations:
        yield ""
        yield from deviations([(manifest.target, each) for each in manifest.deviations], [manifest.target])
    yield ""
    yield from (one_line(f"{each.path}: {each.flaw}") for each in report.differences)
    if any(each.flaw is Flaw.SHA256 for each in report.differences):
        yield REBUILT
    if report.is_sound:
        looked = (
            "every digest is right" if report.is_verified else "sizes are right; --verify compares digests"
        )
        yield f"{count(len(manifest.files), 'file')}, {size(report.size_bytes)}: {looked}"


def _file_data(report: FileReport) -> dict[str, Any]:
    return {
        "path": report.path,
        "format": report.format,
        "size_bytes": report.size_bytes,
        "architecture": report.architecture,
        "parameters": report.parameters,
        "tensor_count": report.tensor_count,
        "types": report.types,
        "metadata": report.metadata,
    }


def _file_lines(report: FileReport) -> Iterator[str]:
    from convert.cli.text import facts, parameters, table  # noqa: PLC0415

    said = [
        ("file", str(report.path)),
        ("format", report.format),
        ("architecture", report.architecture or "not said"),
        ("size", f"{size(report.size_bytes)}, {parameters(report.parameters)}"),
        ("tensors", str(report.tensor_count)),
    ]
    yield from facts(said)
    yield ""
    rows = [
        (name, str(tally.tensors), f"{tally.parameters:,}", size(tally.size_bytes))
        for name, tally in report.types.items()
    ]
    yield from table(("type", "tensors", "parameters", "size"), rows, right="tensors parameters size")
    if report.metadata:
        yield ""
        yield from facts([(key, " ".join(str(value).split())) for key, value in report.metadata.items()])
