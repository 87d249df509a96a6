"""The model card: a repo's README.md and what belongs to it, told by the artifacts and their report."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from convert.formats.shipping import shipping
from convert.publish.card import (
    figures,
    front_matter,
    markdown,
    notes,
    ollama,
    origin,
    xinference,
)
from convert.publish.card.chat import look_at
from convert.publish.card.facts import gather
from convert.publish.card.guide import Setting, guides
from convert.publish.card.label import label
from convert.publish.card.license import section as license_section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from convert.publish.bundle import Bundle, Candidate

README, PLOT = "README.md", "quality.svg"


def render(bundle: Bundle) -> dict[str, bytes]:
    """Every file that the card consists of, by its path in the repo."""
    bundle = replace(bundle, candidates=tuple(sorted(bundle.candidates, key=_place)))
    settings = [_setting(bundle, members) for members in _by_format(bundle)]
    drawn = figures.plot(bundle)
    made = {PLOT: drawn.encode()} if drawn else {}
    for setting, members in zip(settings, _by_format(bundle), strict=True):
        if setting.shipping.runs_in_ollama:
            made |= _encoded(ollama.files(setting, members))
        described = xinference.describe(setting, members) if _is_of_one_format(bundle) else None
        if described:
            made |= _encoded({xinference.NAME: f"{json.dumps(described, ensure_ascii=False, indent=2)}\n"})
    sections = [section for section in _sections(bundle, settings, has_plot=bool(drawn)) if section]
    body = "\n\n".join(sections)
    made[README] = f"{front_matter.render(bundle, settings[0].facts)}\n{body}\n".encode()
    return made


def _encoded(files: Mapping[str, str]) -> dict[str, bytes]:
    return {path: content.encode() for path, content in files.items()}


def _place(candidate: Candidate) -> tuple[str, int, str]:
    """Of a format the smallest first."""
    return candidate.manifest.format, candidate.manifest.size_bytes, candidate.target


def _by_format(bundle: Bundle) -> list[list[Candidate]]:
    groups: dict[str, list[Candidate]] = {}
    for candidate in bundle.candidates:
        groups.setdefault(candidate.manifest.format, []).append(candidate)
    return list(groups.values())


def _is_of_one_format(bundle: Bundle) -> bool:
    """Whether the repo is, and stays so when what is left out now comes to it."""
    return len({each.manifest.format for each in bundle.candidates} | bundle.other_formats) == 1


def _format(candidate: Candidate) -> str:
    return shipping(candidate.manifest.format).label


def _setting(bundle: Bundle, candidates: Sequence[Candidate]) -> Setting:
    """The artifact that commands name, and what its files say."""
    chosen = _chosen(candidates)
    facts = gather(chosen)
    languages, _ = front_matter.languages_of(bundle.source_card)
    return Setting(bundle, chosen, facts, look_at(facts), tuple(languages))


def _chosen(candidates: Sequence[Candidate]) -> Candidate:
    """The favourite, else the smallest that nothing was waived of."""
    named = [each for each in candidates if label(each) == shipping(each.manifest.format).favorite]
    sound = [each for each in candidates if not each.waived] or list(candidates)
    return named[0] if named else min(sound, key=lambda each: each.manifest.size_bytes)


def _sections(bundle: Bundle, settings: Sequence[Setting], *, has_plot: bool) -> Iterator[str]:
    yield f"# {markdown.text(bundle.repo.rpartition('/')[2])}"
    yield _introduction(bundle)
    waived = list(notes.waived(bundle))
    if waived:
        yield _list(
            "> **Not every gate was passed.** What follows was let out on purpose:", waived, quoted=True
        )
    yield "## Files"
    yield figures.quality(bundle)
    if has_plot:
        yield markdown.image("Size of each artifact against its distance from the source", PLOT)
    yield "\n".join(figures.legend(bundle))
    kept = list(origin.kept(bundle))
    if kept:
        yield _list("Also in this repo, from before, and not looked at again for this card:\n", kept)
    yield from _speed(bundle)
    yield "## Run"
    if bundle.is_private:
        yield "The repo is private: log in with `hf auth login`, and set `HF_TOKEN` for tools that want it."
    yield from _running(bundle, settings)
    yield from _prompting(settings[0])
    deviations = list(notes.deviations(bundle.candidates))
    if deviations:
        yield _list("## What came out otherwise", deviations)
    yield _list("## Limits", list(notes.limits(bundle, settings[0].facts)))
    yield "## Check"
    yield from origin.checking(settings[0])
    yield "## Make it again"
    yield from origin.making(bundle)
    yield "## Licence"
    yield " ".join(license_section(bundle))


def _introduction(bundle: Bundle) -> str:
    formats = ", ".join(dict.fromkeys(map(_format, bundle.candidates)))
    count = len(bundle.candidates)
    sizes = f", in {count} sizes" if count > 1 else ""
    opened = figures.runtimes(bundle.candidates)
    through = f" in {opened}" if opened else ""
    tool = f"modelwright {markdown.text(bundle.report.tool)}"
    made = f"{origin.source(bundle)} as {formats}{sizes}, made by {tool}."
    return (
        f"{made[0].upper()}{made[1:]} {'Each' if count > 1 else 'It'} was opened{through}, asked what its "
        "source was asked, and held against its source token by token: the figures are below."
    )


def _speed(bundle: Bundle) -> Iterator[str]:
    yield "## Speed and memory"
    if not figures.has_speed(bundle):
        yield "Not measured."
        return
    yield figures.speed(bundle)
    told = next((each.result.speed for each in bundle.candidates if each.result.speed), None)
    tokens = f", a prompt of {told.prompt_tokens:,} tokens" if told and told.prompt_tokens else ""
    yield (
        f"On {figures.machine(bundle.report.machine)}, one request at a time{tokens}: medians of "
        "repetitions. **Memory** is the peak of the whole process, mapped files among it."
    )


def _running(bundle: Bundle, settings: Sequence[Setting]) -> Iterator[str]:
    for setting, members in zip(settings, _by_format(bundle), strict=True):
        if len(settings) > 1:
            yield f"**{_format(setting.candidate)}**"
        if len(members) > 1:
            others = [markdown.code(label(each)) for each in members if each is not setting.candidate]
            named = markdown.code(label(setting.candidate))
            yield f"The commands are for {named}; for another ({', '.join(others)}) put its name there."
        yield from guides(setting, is_alone=_is_of_one_format(bundle))


def _prompting(setting: Setting) -> Iterator[str]:
    facts, chat = setting.facts, setting.chat
    context = f"The context is {facts.context:,} tokens." if facts.context else ""
    if setting.languages:
        spoken = ", ".join(map(markdown.code, setting.languages))
        context = f"{context} Languages, as the source's card names them: {spoken}.".strip()
    if not facts.is_chat:
        yield "## Prompt"
        yield f"The model continues a text; it has no chat template, and takes no turns. {context}".strip()
        return
    yield "## Prompt"
    yield "The chat template is the source's, and lies within the files; runtimes apply it by themselves."
    if chat and chat.shown:
        yield markdown.fence(chat.shown)
    ends = ", ".join(markdown.code(end) for end in facts.ends.values())
    yield " ".join(part for part in (f"An answer ends with {ends}." if ends else "", context) if part)


def _list(head: str, items: Sequence[str], *, quoted: bool = False) -> str:
    mark = "> " if quoted else ""
    return "\n".join([head, mark.rstrip(), *(f"{mark}{item}" for item in items)])
