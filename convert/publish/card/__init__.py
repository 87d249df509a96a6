"""The model card: a repo's README.md and its companions, made from the artifacts and their report."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from convert.publish.card import figures, front_matter, ollama, readme, xinference
from convert.publish.card.chat import look_at
from convert.publish.card.facts import gather
from convert.publish.card.guide import Setting
from convert.publish.card.label import label, shipping_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convert.publish.bundle import Bundle, Candidate

README = "README.md"


def render(bundle: Bundle) -> dict[str, bytes]:
    """Render every file of the card, by its path in the repo."""
    bundle = replace(bundle, candidates=tuple(sorted(bundle.candidates, key=_smallest_first)))
    groups: dict[str, list[Candidate]] = {}
    for candidate in bundle.candidates:
        groups.setdefault(candidate.manifest.format, []).append(candidate)
    settings = [_setting(bundle, members) for members in groups.values()]
    # One that is described to Xinference has one format now, and when what is left out joins it.
    is_alone = len(groups.keys() | bundle.other_formats) == 1
    made = {figures.PLOT: figures.plot(bundle)}
    for setting in settings:
        made |= ollama.files(setting) if setting.shipping.runs_in_ollama else {}
        described = xinference.describe(setting) if is_alone else None
        if described:
            made[xinference.NAME] = json.dumps(described, ensure_ascii=False, indent=2) + "\n"
    body = readme.render(bundle, settings, is_alone=is_alone)
    made[README] = f"{front_matter.render(bundle, settings[0].facts)}\n{body}\n"
    return {path: content.encode() for path, content in made.items() if content}


def _smallest_first(candidate: Candidate) -> tuple[str, int, str]:
    return candidate.manifest.format, candidate.manifest.size_bytes, candidate.target


def _setting(bundle: Bundle, candidates: Sequence[Candidate]) -> Setting:
    """Choose the artifact that commands name, and gather the facts about its model."""
    chosen = _chosen(candidates)
    facts = gather(chosen)
    languages, _ = front_matter.languages_of(bundle.source_card)
    return Setting(bundle, chosen, tuple(candidates), facts, look_at(facts), tuple(languages))


def _chosen(candidates: Sequence[Candidate]) -> Candidate:
    """Choose the format's favorite, else the smallest of those that needed no waiver."""
    named = [each for each in candidates if label(each) == shipping_of(each).favorite]
    sound = [each for each in candidates if not each.waived] or list(candidates)
    return named[0] if named else min(sound, key=lambda each: each.manifest.size_bytes)
