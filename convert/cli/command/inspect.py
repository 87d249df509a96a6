"""`modelwright inspect`: what an artifact, or a bare model file, says of itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.cli.option import THREADS, answering
from convert.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.cli.output import Output
    from convert.store import ArtifactReport, FileReport


@answering
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--verify", "is_verified", is_flag=True, help="Read every file and compare its digest.")
@THREADS
def command(output: Output, path: Path, threads: int | None, *, is_verified: bool) -> Exit:
    """Show what an artifact or a model file holds.

    PATH is an artifact's folder, its manifest, or a .gguf or .safetensors file. With --verify
    the exit code is 1 where a file is not what the manifest says.
    """
    from convert.store import ArtifactReport, inspect, inspect_artifact, read_manifest  # noqa: PLC0415 - pydantic

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
    from convert.cli.text import count, facts, size, table  # noqa: PLC0415

    manifest = report.manifest
    commit = f" at {manifest.source.commit}" if manifest.source.commit else ""
    encodings = Counter(manifest.tensors.values()).most_common()
    said = [
        ("artifact", str(report.path)),
        ("target", manifest.target),
        ("source", f"{manifest.source.repo or 'a local folder'}{commit}"),
        ("licence", manifest.licence or "not stated by the source"),
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
        yield f"{count(len(manifest.deviations), 'deviation')} from what was asked:"
        yield from (
            f"  {each.subject}: {each.got} for {each.wanted}, {each.why}" for each in manifest.deviations
        )
    yield ""
    yield from (f"{each.path}: {each.flaw}" for each in report.differences)
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
    from convert.cli.text import facts, parameters, size, table  # noqa: PLC0415

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
