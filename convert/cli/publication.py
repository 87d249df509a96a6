"""What a publication, or a dry run of one, tells a program and a person."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from convert.cli.text import count, one_line, table
from convert.errors import UsageFailure
from convert.publish import stage
from convert.publish.bundle import README
from convert.publish.destinations import find, located
from convert.publish.hub import HubPlace
from convert.publish.session import signed_in, token_at_hand
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

# Who owns a repo that is no Hub's, and one that nobody is logged in for.
NOBODY = "local"


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
    if to is not None:
        for name in ("pull_request", "collection"):
            if getattr(wanted, name):
                output.remark(f"publish.{name}: only the Hub has that, and {one_line(to)} is another place")
        wanted = wanted.model_copy(update={"to": to, "pull_request": False, "collection": None})
    return Settings(
        recipe=recipe,
        wanted=wanted,
        store=Store(out),
        hub=Hub.from_environment(is_offline=offline),
        progress=output.progress(),
        only=only,
    )


@contextmanager
def place_of(settings: Settings, output: Output, *, is_dry: bool) -> Iterator[tuple[Destination | None, str]]:
    """Where it goes, and as whom; without a login a dry run goes nowhere."""
    if settings.wanted.to is not None:
        yield find(settings.wanted.to), NOBODY
    elif is_dry and (settings.hub.is_offline or token_at_hand(settings.hub) is None):
        why = "offline" if settings.hub.is_offline else "not logged in"
        output.remark(f"{why}: {{user}} is written {NOBODY}, and what stands on the Hub was not looked at")
        yield None, NOBODY
    else:
        with signed_in(settings.hub) as session:
            yield HubPlace(session), session.user


def publish(settings: Settings, output: Output, *, is_dry: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Publish, or see what that would do: for a program, and in lines."""
    with place_of(settings, output, is_dry=is_dry) as (place, user):
        gathered = stage.gather(settings, user, place)
        bundles = gathered.bundles
        for bundle in bundles:
            for kept in bundle.kept:
                output.remark(
                    f"kept: {one_line(kept.folder)}: the card names it, and no more: {one_line(kept.why)}"
                )
            for candidate in bundle.candidates:
                for waiver in candidate.waived:
                    output.remark(f"waived: {candidate.target}: {waiver.gate}: {one_line(waiver.reason)}")
        surveys = stage.survey(gathered, place) if place else (None,) * len(bundles)
        for survey in surveys:
            if survey is not None and survey.is_private and not settings.wanted.private:
                output.remark(f"{survey.place}: private there, and left so: make it public on the Hub")
        told = [_data(bundle, survey) for bundle, survey in zip(bundles, surveys, strict=True)]
        if is_dry or place is None:
            pairs = zip(bundles, surveys, strict=True)
            is_hub = settings.wanted.to is None
            return told, [line for pair in pairs for line in _dry_lines(*pair, is_hub=is_hub)]
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


def _dry_lines(bundle: Bundle, survey: Survey | None, *, is_hub: bool) -> Iterator[str]:
    missing = {file.path for file in (survey.missing if survey else bundle.files)}
    is_private = bundle.is_private if survey is None or survey.is_private is None else survey.is_private
    states = [("private" if is_private else "public")] if is_hub else []
    states += [] if survey is None else ["stands" if survey.exists else "to be made"]
    yield f"{survey.place if survey else bundle.repo} ({', '.join(states)})"
    # Who may see it, commits and branches are the Hub's own.
    yield f"  {_how(bundle) if is_hub else 'in one step'}"
    rows = [
        (size(file.size_bytes), "upload" if file.path in missing else "there", one_line(file.path))
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


def _how(bundle: Bundle) -> str:
    how = "a pull request" if bundle.is_pull_request else f"one commit to {bundle.revision}"
    tag = f", tagged {bundle.tag}" if bundle.tag else ""
    shelf = f", in the collection {bundle.collection!r}" if bundle.collection else ""
    return f"{how}{tag}{shelf}"


def _lines(done: Sequence[Published]) -> Iterator[str]:
    for each in done:
        sent, revision = each.sent, each.sent.revision
        what = f"published, {size(sent.sent_bytes)} sent" if sent.is_new else "stood there already"
        at = f" at {_short(revision)}" if revision and not sent.place.endswith(revision) else ""
        yield f"{sent.place}{at}: {what}, and read back whole"


def _short(revision: str) -> str:
    """A commit or a digest, as much of it as people compare."""
    kind, colon, digest = revision.rpartition(":")
    return f"{kind}{colon}{digest[:12]}"
