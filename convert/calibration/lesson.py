"""LessonPack: a lesson in Markdown, and revisions of it."""

from typing import Any

from convert.calibration.dialogue import Dialogue
from convert.calibration.draw import Draw

LETTERS = "ABCD"


def lesson(pack: dict[str, Any], draw: Draw) -> Dialogue:
    """Compose a conversation about a lesson."""
    topic = draw.one(pack["topics"])
    points = draw.some(topic["points"], draw.between(3, len(topic["points"])))
    pupils = draw.one(pack["pupils"])
    request = draw.one(pack["requests"]).replace("{P}", pupils).replace("{T}", topic["name"])
    turns = [(request, _outline(pack, topic, points, draw))]
    makers = {
        "expand": lambda: _expanded(pack, topic, points, draw),
        "sections": lambda: _sections(pack, points),
        "choice": lambda: _choice(pack, topic, draw),
        "simplify": lambda: str(topic["simple"]),
    }
    for name in draw.some(list(makers), draw.between(1, len(makers))):
        revision = draw.one(pack["revisions"][name]).replace("{T}", topic["name"])
        turns.append((revision, makers[name]()))
    return Dialogue(tuple(turns), pack["system"], pack["cue"])


def _outline(pack: dict[str, Any], topic: dict[str, Any], points: list[list[str]], draw: Draw) -> str:
    heads = pack["headings"]
    goals = [goal.replace("{T}", topic["name"]) for goal in draw.some(pack["goals"], 3)]
    questions = [quiz[0] for quiz in draw.some(topic["quiz"], 3)]
    return "\n\n".join(
        [
            f"# {topic['name'][:1].upper()}{topic['name'][1:]}",
            f"## {heads['goals']}\n{_numbered(goals)}",
            f"## {heads['content']}\n{_numbered([title for title, _ in points])}",
            f"## {heads['quiz']}\n{_numbered(questions)}",
        ]
    )


def _expanded(pack: dict[str, Any], topic: dict[str, Any], points: list[list[str]], draw: Draw) -> str:
    rows = [f"{title}{pack['colon']}{text}" for title, text in points]
    rows += [f"{pack['fact']}{pack['colon']}{fact}" for fact in draw.some(topic["facts"], draw.between(2, 3))]
    return f"## {pack['headings']['content']}\n{_numbered(rows)}"


def _sections(pack: dict[str, Any], points: list[list[str]]) -> str:
    heads = [pack["section"].replace("{n}", str(number)) for number in range(1, len(points) + 1)]
    return "\n\n".join(f"## {head}{title}\n{text}" for head, (title, text) in zip(heads, points, strict=True))


def _choice(pack: dict[str, Any], topic: dict[str, Any], draw: Draw) -> str:
    question, right, *wrong = draw.one(topic["quiz"])
    options = draw.some([right, *wrong], len(wrong) + 1)
    rows = [f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False)]
    answer = LETTERS[options.index(right)]
    heads = pack["headings"]
    return "\n".join(
        [f"## {heads['choice']}", question, *rows, "", f"{heads['answer']}{pack['colon']}{answer}"]
    )


def _numbered(rows: list[str]) -> str:
    return "\n".join(f"{number}. {row}" for number, row in enumerate(rows, 1))
