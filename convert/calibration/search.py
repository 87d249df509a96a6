"""SearchQA: numbered materials, a question, its answer if they have one, and the material it came from."""

from dataclasses import dataclass
from typing import Any

from convert.calibration.dialogue import Dialogue
from convert.calibration.draw import Draw

MATERIALS = (3, 6)
ABSENT_PERCENT = 20
CITE_PERCENT = 75
SECOND_PERCENT = 35
FILLER_PERCENT = 70
# Leftover markup, as in retrieved pages.
MARKUP_PERCENT = 15
MARKUP = ("<p>{}</p>", "<div>{}</div>", "<li>{}</li>", "**{}**", "> {}")


@dataclass(frozen=True)
class _Fact:
    material: str
    question: str
    answer: str


def search(pack: dict[str, Any], draw: Draw) -> Dialogue:
    """Compose a conversation about materials."""
    subjects = [_subject(pack, draw) for _ in range(2)]
    stated: list[_Fact] = []
    unstated: list[_Fact] = []
    for name, kind in subjects:
        facts = [_fact(pack, name, fact, draw) for fact in draw.some(kind["facts"], len(kind["facts"]))]
        kept = draw.between(2, max(2, len(facts) - 1))
        stated += facts[:kept]
        unstated += facts[kept:]
    shown = draw.some(stated, draw.between(*MATERIALS))
    unshown = unstated + [fact for fact in stated if fact not in shown]
    materials = [_material(pack, fact, draw) for fact in shown]
    turns = _ask(pack, draw, materials, shown, unshown)
    others = [fact for fact in shown if fact.question not in turns[0][0]]
    if others and draw.happens(SECOND_PERCENT):
        again = draw.one(others)
        turns.append((pack["again"].replace("{question}", again.question), again.answer))
    return Dialogue(tuple(turns), cue=pack["cue"])


def _ask(
    pack: dict[str, Any], draw: Draw, materials: list[str], shown: list[_Fact], unshown: list[_Fact]
) -> list[tuple[str, str]]:
    """Compose the question in the scenario's prompt, and the turn that cites its material."""
    is_absent = bool(unshown) and draw.happens(ABSENT_PERCENT)
    fact = draw.one(unshown if is_absent else shown)
    numbered = "\n".join(f"{number}. {text}" for number, text in enumerate(materials, 1))
    prompt = pack["ask"].replace("{question}", fact.question).replace("{materials}", numbered)
    turns = [(prompt, draw.one(pack["unknown"]) if is_absent else fact.answer)]
    if draw.happens(CITE_PERCENT):
        number = "" if is_absent else str(shown.index(fact) + 1)
        cited = draw.one(pack["uncited" if is_absent else "cited"]).replace("{n}", number)
        turns.append((pack["cite"], cited))
    return turns


def _subject(pack: dict[str, Any], draw: Draw) -> tuple[str, dict[str, Any]]:
    kind = draw.one(pack["subjects"])
    return _filled(draw.one(kind["names"]), pack, draw), kind


def _fact(pack: dict[str, Any], name: str, fact: dict[str, Any], draw: Draw) -> _Fact:
    value = _value(fact["value"], pack, draw)

    def fill(template: str) -> str:
        return _filled(template.replace("{S}", name).replace("{V}", value), pack, draw)

    return _Fact(fill(draw.one(fact["says"])), fill(fact["asks"]), fill(draw.one(fact["answers"])))


def _material(pack: dict[str, Any], fact: _Fact, draw: Draw) -> str:
    """Put the sentence that states a fact among others that do not answer a question."""
    sentences = [fact.material]
    while draw.happens(FILLER_PERCENT) and len(sentences) < 4:
        filler = _filled(draw.one(pack["fillers"]), pack, draw)
        if filler not in sentences:
            sentences.insert(draw.below(len(sentences) + 1), filler)
    text = pack["joint"].join(sentences)
    return draw.one(MARKUP).format(text) if draw.happens(MARKUP_PERCENT) else text


def _value(kind: str, pack: dict[str, Any], draw: Draw) -> str:
    """Draw a value: a number for e.g. `number 20 900`, else a text with random words."""
    name, _, bounds = kind.partition(" ")
    if name != "number":
        return _filled(kind, pack, draw)
    first, last = map(int, bounds.split())
    number = draw.between(first, last)
    return f"{number:,}" if number >= 10_000 and pack["language"] == "en" else str(number)


def _filled(template: str, pack: dict[str, Any], draw: Draw) -> str:
    """Draw a word for each {kind} of words, and a number for each {first-last}."""
    pieces = template.split("{")
    made = [pieces[0]]
    for piece in pieces[1:]:
        slot, _, rest = piece.partition("}")
        if slot in pack["words"]:
            made.append(draw.one(pack["words"][slot]))
        else:
            first, _, last = slot.partition("-")
            made.append(str(draw.between(int(first), int(last))))
        made.append(rest)
    return "".join(made)
