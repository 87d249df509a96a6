"""`modelwright publish`: publish what passed, and read it back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from convert.cli.option import OFFLINE, ONLY, OUT, RECIPE, STORE, answering
from convert.cli.text import count, one_line, table
from convert.size import size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert import Options, Run
    from convert.cli.output import Output
    from convert.publish.bundle import Bundle
    from convert.publish.destination import Destination, Survey

CARD = "README.md"


@answering
@RECIPE
@ONLY
@OUT
@STORE
@click.option(
    "--dry-run",
    "is_dry",
    is_flag=True,
    help="Show the repo, its files, the card, and what would be uploaded; change nothing.",
)
@click.option(
    "--to",
    metavar="PLACE",
    help="A folder, an fsspec URL or oci://registry/path in place of the recipe's publish.to.",
)
@OFFLINE
def command(output: Output, *, recipe: str, is_dry: bool, to: str | None, options: Options) -> None:
    """Publish the artifacts that passed.

    The last verification must be of exactly what is there now, by the current checks and this recipe;
    otherwise nothing goes out. A gate that failed and is not waived in the recipe's publish: is exit
    code 3. A repo changes in one commit, or not at all, and is read back. What has arrived is not sent
    twice: after a failure, run the same command again.
    """
    from convert import load_recipe, publish_recipe  # noqa: PLC0415 - pydantic

    run = publish_recipe(load_recipe(recipe), to=to, is_dry=is_dry, **options)
    output.answer({"is_dry_run": is_dry, "repos": data(run)}, lambda: lines(run))


def data(run: Run) -> list[dict[str, Any]]:
    """Return each repo for a program."""
    repos = [_data(bundle, survey) for bundle, survey in zip(run.bundles, run.surveys, strict=True)]
    for repo, sent in zip(repos, run.published, strict=False):
        repo |= {"revision": sent.revision, "sent_bytes": sent.sent_bytes, "is_new": sent.is_new}
    return repos


def lines(run: Run) -> Iterator[str]:
    """Write for a person what was published, or what would be."""
    for sent in run.published:
        revision = sent.revision
        what = f"published, {size(sent.sent_bytes)} sent" if sent.is_new else "already there"
        at = f" at {_short(revision)}" if revision and not sent.place.endswith(revision) else ""
        yield f"{sent.place}{at}: {what}, read back whole"
    if run.is_dry:
        for bundle, survey in zip(run.bundles, run.surveys, strict=True):
            yield from _dry_lines(bundle, survey, run.destination)


def _data(bundle: Bundle, survey: Survey | None) -> dict[str, Any]:
    missing = {file.path for file in (survey.missing if survey else bundle.files)}
    return {
        "repo": bundle.repo,
        "place": survey.place if survey else None,
        "exists": survey.exists if survey else None,
        "private": bundle.is_private,
        "branch": bundle.revision,
        "tag": bundle.tag,
        "pull_request": bundle.is_pull_request,
        "collection": bundle.collection,
        "targets": [candidate.target for candidate in bundle.candidates],
        "waived": [
            {"target": candidate.target, "gate": waiver.gate, "reason": waiver.reason}
            for candidate in bundle.candidates
            for waiver in candidate.waived
        ],
        "kept": [{"folder": each.folder, "why": each.why} for each in bundle.kept],
        "files": [
            {
                "path": file.path,
                "size_bytes": file.size_bytes,
                "sha256": file.sha256,
                "is_missing": file.path in missing,
            }
            for file in bundle.files
        ],
        "missing_bytes": survey.missing_bytes if survey else bundle.size_bytes,
        "foreign": list(survey.foreign) if survey else [],
        "card": _card(bundle),
    }


def _card(bundle: Bundle) -> str:
    return next(file.read().decode() for file in bundle.files if file.path == CARD)


def _dry_lines(bundle: Bundle, survey: Survey | None, destination: Destination) -> Iterator[str]:
    missing = {file.path for file in (survey.missing if survey else bundle.files)}
    is_private = bundle.is_private if survey is None or survey.is_private is None else survey.is_private
    states = [("private" if is_private else "public")] if "private" in destination.SETTINGS else []
    states += [] if survey is None else ["exists" if survey.exists else "to be created"]
    yield f"{survey.place if survey else bundle.repo} ({', '.join(states)})"
    yield f"  {destination.manner(bundle)}"
    rows = [
        (size(file.size_bytes), "upload" if file.path in missing else "unchanged", one_line(file.path))
        for file in bundle.files
    ]
    rows += [("", "kept", one_line(path)) for path in (survey.foreign if survey else ())]
    yield from table(("size", "", "file"), rows, right="size")
    yield ""
    missing_bytes = survey.missing_bytes if survey else bundle.size_bytes
    yield f"{count(len(missing), 'file')} to upload, at most {size(missing_bytes)}; nothing was changed"
    yield ""
    yield f"{CARD}:"
    # A no-break space keeps a figure and its unit together in a browser; a terminal need not show it.
    yield from (one_line(line.replace("\u00a0", " ")) for line in _card(bundle).splitlines())
    yield ""


def _short(revision: str) -> str:
    """Shorten a commit or a digest to as much as people compare."""
    kind, colon, digest = revision.rpartition(":")
    return f"{kind}{colon}{digest[:12]}"
