"""The model card: a repo's README.md and its companions, made from the artifacts and their report."""

import json
from collections.abc import Sequence
from dataclasses import replace

from convert.publish.bundle import README, Bundle, Candidate
from convert.publish.card import figures, front_matter, ollama, readme, xinference
from convert.publish.card.chat import look_at
from convert.publish.card.choice import choice
from convert.publish.card.facts import gather
from convert.publish.card.group import FormatGroup
from convert.publish.card.label import label, shipping_of
from convert.recipe.redact import redact_all
from verify.report import Report, page


def render(bundle: Bundle) -> dict[str, bytes]:
    """Render every file of the card, by its path in the repo."""
    bundle = replace(bundle, candidates=tuple(sorted(bundle.candidates, key=_smallest_first)))
    by_format: dict[str, list[Candidate]] = {}
    for candidate in bundle.candidates:
        by_format.setdefault(candidate.manifest.format, []).append(candidate)
    groups = [_group(bundle, members) for members in by_format.values()]
    # What is left out now may join the repo later, and a description for Xinference knows one format.
    is_alone = len(by_format.keys() | bundle.other_formats) == 1
    report = _redacted(bundle.report)
    shown = page.render(report, choice=choice(report, groups))
    made = {figures.PLOT: figures.plot(bundle), readme.PAGE: shown}
    for group in groups:
        made |= ollama.files(group) if group.shipping.runs_in_ollama else {}
        described = xinference.describe(group) if is_alone and group.is_on_hub else None
        if described:
            made[xinference.NAME] = json.dumps(described, ensure_ascii=False, indent=2) + "\n"
    body = readme.render(bundle, groups, is_alone=is_alone)
    head = front_matter.dump(front_matter.values(bundle, groups[0].facts))
    made[README] = f"---\n{head}---\n\n{body}\n"
    return {path: content.encode() for path, content in made.items() if content}


def _redacted(report: Report) -> Report:
    """Leave out what runtimes and models say of folders and secrets."""
    return Report.model_validate(redact_all(report.model_dump(mode="json", by_alias=True)))


def _smallest_first(candidate: Candidate) -> tuple[str, int, str]:
    return candidate.manifest.format, candidate.manifest.size_bytes, candidate.target


def _group(bundle: Bundle, candidates: Sequence[Candidate]) -> FormatGroup:
    """Choose the artifact that commands name, and gather the facts about its model."""
    chosen = _chosen(candidates)
    facts = gather(chosen)
    languages, _ = front_matter.languages_of(bundle.source_card)
    return FormatGroup(bundle, chosen, tuple(candidates), facts, look_at(facts), tuple(languages))


def _chosen(candidates: Sequence[Candidate]) -> Candidate:
    """Choose the format's favorite, else the smallest of those that needed no waiver."""
    named = [each for each in candidates if label(each) == shipping_of(each).favorite]
    sound = [each for each in candidates if not each.waived] or list(candidates)
    return named[0] if named else min(sound, key=lambda each: each.manifest.size_bytes)
