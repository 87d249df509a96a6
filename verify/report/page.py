"""report.html: one file that needs nothing else; a model's words are text in it, never markup."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from verify.gates import GATES
from verify.report import Verdict, by_layer, drawing, markdown, words
from verify.report.dialogue import Dialogue, dialogues
from verify.report.rows import Anchors, Bar, Cell, Row, bar, key, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jinja2 import Environment

    from verify.circumstances import Circumstances
    from verify.gates import Check
    from verify.report import ArtifactResult, Report
    from verify.report.choice import Choice, Offer

HERE = Path(__file__).parent
CONTEXTS = (1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
# What would end a script early, or a line of it, in JSON between tags.
_UNSAFE = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
_GATES = {gate.name for gate in GATES}

Artifact = tuple["ArtifactResult", str, "Offer | None", list["Check"], list[tuple["Check", Bar]]]


def render(*reports: Report, choice: Choice | None = None) -> str:
    """Return the whole file, made of one or several reports and of what could be chosen."""
    from markupsafe import Markup  # noqa: PLC0415 - for a report alone

    places = Anchors()
    for taken in ("field", "plots", "dialogues", "choose"):
        places.name(taken)
    anchors = {
        key(report, each.name): places.name(each.name) for report in reports for each in report.artifacts
    }
    parts = [(report, list(_artifacts(report, anchors, choice)), _held(report, places)) for report in reports]
    listed = list(rows(reports, choice, anchors))
    names = [report.recipe or "Verification" for report in reports]
    verdicts = {report.verdict for report in reports}
    script = _script(choice)
    data = json.dumps(choice.data, ensure_ascii=False).translate(_UNSAFE) if choice else ""
    verdict: Verdict = next((each for each in get_args(Verdict) if each in verdicts), "failed")
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            reports=reports,
            parts=parts,
            choice=choice,
            contexts=sorted({*CONTEXTS, choice.settings["context"]}) if choice else (),
            rows=listed,
            nothing=Cell(),
            is_many=len({row.recipe for row in listed}) > 1,
            has_dialogues=any(held for _, _, held in parts),
            heading=", ".join(names) or "What to take",
            title=f"{', '.join(names)}: {words.verdict(verdict)}" if names else "What to take",
            verdict=verdict,
            plots=[Markup(drawn) for drawn in drawing.plots(reports, anchors, choice)],  # noqa: S704 - escaped there
            columns=_columns(listed),
            further=words.CHOSEN.items() if choice else (),
            left=words.LEFT,
            style=Markup((HERE / "page.css").read_text("utf-8")),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own files
            script_digest=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
            data=Markup(data),  # noqa: S704 - nothing in it can end the element
        )
    )


def _columns(listed: list[Row]) -> list[tuple[str, str]]:
    """List the columns that say something of any row, those of words first."""
    said = {*words.LEFT, *(title for row in listed for title in row.cells)}
    found = [(title, what) for title, what in words.COLUMNS.items() if title in said]
    return sorted(found, key=lambda item: item[0] not in words.LEFT)


def _script(choice: Choice | None) -> str:
    """Put the page's script together, in strict mode and a function."""
    own = (HERE / "page.js").read_text("utf-8")
    return f'"use strict";\n(() => {{\n{choice.script if choice else ""}\n{own}}})();\n'


def _artifacts(report: Report, anchors: dict[str, str], choice: Choice | None) -> Iterator[Artifact]:
    """Yield each artifact with its place, its offer, its structural checks that passed, and its gates."""
    for each in report.artifacts:
        which = key(report, each.name)
        bars = [(check, found) for check in each.checks if (found := bar(check)) and check.name in _GATES]
        gated = {check.name for check, _ in bars}
        passed = [check for check in each.checks if check.passed and check.name not in gated]
        yield each, anchors[which], choice.offer(which) if choice else None, passed, bars


def _held(report: Report, places: Anchors) -> list[tuple[str, Dialogue]]:
    return [(places.name(report.recipe or "", *each.key), each) for each in dialogues(report)]


def _rate(offer: Offer) -> str:
    speed = offer.tok_s or 0.0
    shown = f"{speed:.0f}" if speed >= 10 else f"{speed:.1f}"
    return f"{'' if offer.is_speed_measured else 'about '}{shown} tok/s"


def _others(found: Circumstances) -> str:
    return (
        "an unknown number of" if found.others_cores is None else f"{found.others_cores:.1f} of {found.cores}"
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415
    from markupsafe import Markup  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "scope": words.scope,
        "answered_by": words.answered_by,
        "size": words.size,
        "rate": _rate,
        "unmeasured": words.unmeasured,
        "verdict": words.verdict,
        "limits": markdown.LIMITS.get,
        "figures": lambda artifact: list(markdown.figures(artifact)),
        "scores": markdown.scores,
        "losses": lambda errors: Markup(by_layer.losses(errors)),  # noqa: S704 - escaped there
        "besides_layers": by_layer.besides_layers,
        "types": lambda encodings: Markup(by_layer.types(encodings)),  # noqa: S704 - escaped there
        "others": _others,
    }
    environment.filters |= filters
    environment.globals |= {"ends": words.ENDS}
    return environment
