"""What a publication, or a dry run of one, tells a program and a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.cli.text import count, one_line, table
from convert.errors import UsageFailure
from convert.publish import stage
from convert.publish.bundle import README
from convert.publish.destination import LOCAL_USER
from convert.publish.destinations import find, located
from convert.publish.stage import Settings
from convert.recipe import Publish
from convert.size import size
from convert.source import Hub
from convert.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from convert.cli.output import Output
    from convert.publish.bundle import Bundle
    from convert.publish.destination import Destination, Survey
    from convert.publish.stage import Published
    from convert.recipe import Recipe


def settings_for(
    recipe: Recipe,
    output: Output,
    *,
    out: Path,
    only: tuple[str, ...],
    offline: bool | None,
    to: str | None = None,
) -> Settings:
    """What a recipe and a command line ask for together; `to` goes before what the recipe says."""
    if recipe.publish is None and to is None:
        raise UsageFailure(
            f"{recipe.path}: it does not say where to publish",
            'add e.g. publish: {repo: "{user}/{model}-{target}"}, or name a place with --to',
        )
    wanted = recipe.publish or Publish()
    if to is None and wanted.to is not None:
        to = located(wanted.to, recipe.path.parent)
    hub = Hub.from_environment(is_offline=offline)
    known = find(to, hub).SETTINGS
    for name, without in (("pull_request", False), ("collection", None)):
        if getattr(wanted, name) and name not in known:
            output.remark(f"publish.{name}: not used: {one_line(str(to))} has no such thing")
            wanted = wanted.model_copy(update={name: without})
    wanted = wanted.model_copy(update={"to": to})
    return Settings(
        recipe=recipe,
        wanted=wanted,
        store=Store(out),
        hub=hub,
        progress=output.progress(),
        only=only,
    )


def publish(settings: Settings, output: Output, *, is_dry: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Publish, or see what that would do: for a program, and in lines."""
    with find(settings.wanted.to, settings.hub) as place:
        unreachable = place.unreachable() if is_dry else None
        if unreachable:
            output.remark(f"{unreachable}: {{user}} stays {LOCAL_USER}, and the Hub was not looked at")
        user = LOCAL_USER if unreachable else place.user()
        gathered = stage.gather(settings, user, None if unreachable else place)
        bundles = gathered.bundles
        for bundle in bundles:
            for kept in bundle.kept:
                output.remark(
                    f"kept: {one_line(kept.folder)}: the card names it, and no more: {one_line(kept.why)}"
                )
            for candidate in bundle.candidates:
                for waiver in candidate.waived:
                    output.remark(f"waived: {candidate.target}: {waiver.gate}: {one_line(waiver.reason)}")
        surveys = stage.survey(gathered, place) if not unreachable else (None,) * len(bundles)
        for survey in surveys:
            if survey is not None and survey.is_private and not settings.wanted.private:
                output.remark(f"{survey.place}: private there, and left so: make it public on the Hub")
        told = [_data(bundle, survey) for bundle, survey in zip(bundles, surveys, strict=True)]
        if is_dry:
            pairs = zip(bundles, surveys, strict=True)
            return told, [line for pair in pairs for line in _dry_lines(*pair, place)]
        known = tuple(survey for survey in surveys if survey is not None)
        done = stage.publish(bundles, known, place, settings.progress)
    for each, one in zip(told, done, strict=True):
        sent = one.sent
        each |= {"revision": sent.revision, "sent_bytes": sent.sent_bytes, "is_new": sent.is_new}
    return told, list(_lines(done))


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
    return next(file.read().decode() for file in bundle.files if file.path == README)


def _dry_lines(bundle: Bundle, survey: Survey | None, place: Destination) -> Iterator[str]:
    missing = {file.path for file in (survey.missing if survey else bundle.files)}
    is_private = bundle.is_private if survey is None or survey.is_private is None else survey.is_private
    states = [("private" if is_private else "public")] if "private" in place.SETTINGS else []
    states += [] if survey is None else ["exists" if survey.exists else "to be created"]
    yield f"{survey.place if survey else bundle.repo} ({', '.join(states)})"
    yield f"  {place.manner(bundle)}"
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
    yield f"{README}:"
    # A browser keeps a figure and its unit together by a space of its own, which a terminal need not show.
    yield from (one_line(line.replace("\u00a0", " ")) for line in _card(bundle).splitlines())
    yield ""


def _lines(done: Sequence[Published]) -> Iterator[str]:
    for each in done:
        sent, revision = each.sent, each.sent.revision
        what = f"published, {size(sent.sent_bytes)} sent" if sent.is_new else "already there"
        at = f" at {_short(revision)}" if revision and not sent.place.endswith(revision) else ""
        yield f"{sent.place}{at}: {what}, read back whole"


def _short(revision: str) -> str:
    """A commit or a digest, as much of it as people compare."""
    kind, colon, digest = revision.rpartition(":")
    return f"{kind}{colon}{digest[:12]}"
