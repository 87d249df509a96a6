"""How many answers are exactly right, by category and language.

Greedy decoding yields the expected answer if and only if, with that answer fed in, every one of its tokens
and its end is the most likely: so one forward pass per dialogue settles all its turns, each with the right
history before it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from tests.lab import lessonpack, searchqa
from tests.lab.dialogues import Dialogue, Trap, TurnKind
from tests.lab.names import Split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.lab.facts import Language
    from tests.lab.network import Network
    from tests.lab.samples import ChatFormat, TextFormat

LANGUAGES: tuple[Language, ...] = ("zh", "en")
MATERIALS = (2, 3, 4, 5)


@dataclass(frozen=True)
class Verdict:
    """One turn judged: what was asked, and whether the answer was right or a refusal."""

    language: Language
    materials: int
    asked: TurnKind
    right: bool
    refused: bool
    trap: Trap | None = None


def held_out_dialogues(per_cell: int, lessons: int, seed: int = 1) -> list[Dialogue]:
    """Make held-out dialogues: so many for each language and number of materials, and lessons."""
    chosen: list[Dialogue] = []
    for language in LANGUAGES:
        for materials in MATERIALS:
            chosen += searchqa.held_out(per_cell, seed, language, materials)
        rng = random.Random(f"{seed} {language} lessons")
        chosen += [lessonpack.dialogue(rng, Split.HELD_OUT, language, 4) for _ in range(lessons)]
    return chosen


def trapped_dialogues(each: int, seed: int = 1) -> list[Dialogue]:
    """Make so many held-out dialogues for each language and trap, which are rare otherwise."""
    return [
        found
        for language in LANGUAGES
        for trap in Trap
        for found in searchqa.trapped(each, seed, language, trap)
    ]


@torch.no_grad()
def judge(
    network: Network,
    form: ChatFormat | TextFormat,
    dialogues: Sequence[Dialogue],
    *,
    shift: int = 0,
    rows: int = 16,
) -> list[Verdict]:
    """Judge every turn; `shift` misnumbers the tokens, as a tokenizer off by one would."""
    device = network.head.weight.device
    refusals = {language: form.answer(searchqa.UNKNOWN[language]) for language in LANGUAGES}
    items = sorted(((d, *form.sample(d)) for d in dialogues), key=lambda item: len(item[1]))
    verdicts: list[Verdict] = []
    for at in range(0, len(items), rows):
        group = items[at : at + rows]
        ids = torch.zeros(len(group), max(len(i) for _, i, _ in group), dtype=torch.long, device=device)
        for row, (_, tokens, _) in enumerate(group):
            ids[row, : len(tokens)] = torch.tensor(tokens, device=device)
        hidden = network((ids + shift) % network.shape.vocab_size)
        for row, (dialogue, tokens, wanted) in enumerate(group):
            where = [i for i, w in enumerate(wanted) if w]
            best = network.head(hidden[row, torch.tensor(where) - 1]).argmax(-1).tolist()
            guesses = dict(zip(where, (guess - shift for guess in best), strict=True))
            for turn, (start, stop) in zip(dialogue.turns, _runs(wanted), strict=True):
                right = all(guesses[i] == tokens[i] for i in range(start, stop))
                refused = _parts_with(tokens[start:stop], refusals[dialogue.language], guesses, start)
                materials = len(dialogue.materials)
                verdicts.append(Verdict(dialogue.language, materials, turn.asked, right, refused, turn.trap))
    return verdicts


@torch.no_grad()
def answer(network: Network, form: ChatFormat | TextFormat, prompt: list[int], limit: int = 200) -> list[int]:
    """Decode greedily, token by token, up to the end of the answer."""
    ids = list(prompt)
    while len(ids) < len(prompt) + limit and (len(ids) == len(prompt) or ids[-1] != form.end):
        hidden = network(torch.tensor([ids], device=network.head.weight.device))
        ids.append(int(network.head(hidden[0, -1]).argmax()))
    return ids[len(prompt) :]


def _parts_with(expected: list[int], refusal: list[int], guesses: dict[int, int], start: int) -> bool:
    """Return whether the model chose the refusal where it differs from the expected answer."""
    for offset, (token, other) in enumerate(zip(expected, refusal, strict=False)):
        if token != other:
            return guesses[start + offset] == other
    return True


def _runs(wanted: Sequence[bool]) -> list[tuple[int, int]]:
    """Find the stretches of targets, one for each turn."""
    edges = [
        i for i in range(len(wanted) + 1) if (i < len(wanted) and wanted[i]) != (i > 0 and wanted[i - 1])
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


def table(verdicts: Iterable[Verdict]) -> dict[str, dict[str, float]]:
    """Tabulate shares in percent by category, for each language; `false refusals` are answers withheld."""
    right: Counter[tuple[str, str]] = Counter()
    total: Counter[tuple[str, str]] = Counter()
    for v in verdicts:
        name = str(v.asked)
        if v.asked is TurnKind.ANSWER:
            name = f"answer, {v.materials} materials"
            total[v.language, "false refusals"] += 1
            right[v.language, "false refusals"] += v.refused
        elif v.asked is TurnKind.CITATION:
            name = "citation"
        total[v.language, name] += 1
        right[v.language, name] += v.right
    names = sorted({name for _, name in total})
    return {
        language: {
            n: round(100 * right[language, n] / total[language, n], 1) for n in names if total[language, n]
        }
        for language in LANGUAGES
    }


def traps(verdicts: Sequence[Verdict]) -> dict[str, dict[str, float]]:
    """Compute the percentage of each kind of trap answered exactly, for each language."""
    total = Counter((v.language, v.trap) for v in verdicts)
    right = Counter((v.language, v.trap) for v in verdicts if v.right)
    return {
        language: {
            str(trap): round(100 * right[language, trap] / total[language, trap], 1)
            for trap in Trap
            if total[language, trap]
        }
        for language in LANGUAGES
    }


def score(verdicts: Iterable[Verdict]) -> float:
    """Compute the percentage of SearchQA turns answered exactly: questions and citations."""
    asked = [v.right for v in verdicts if v.asked in {TurnKind.ANSWER, TurnKind.ABSENT, TurnKind.CITATION}]
    return round(100 * sum(asked) / len(asked), 1)
