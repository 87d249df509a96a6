"""report.html: one file that needs nothing else; a model's words are text in it, never markup."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from verify.report import markdown, plot, words

if TYPE_CHECKING:
    from jinja2 import Environment

    from verify.report import ArtifactResult, Report, Scenarios
    from verify.scenarios.transcript import Transcript

HERE = Path(__file__).parent


def render(report: Report) -> str:
    """Return the whole file."""
    from markupsafe import Markup  # noqa: PLC0415 - for a report alone

    plots = {
        "size": plot.quality(map(_point, report.artifacts), report.source.size_bytes),
        "decode": plot.speeds(report.artifacts, "decode_tok_s"),
        "prefill": plot.speeds(report.artifacts, "prefill_tok_s"),
    }
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            report=report,
            style=Markup((HERE / "page.css").read_text("utf-8")),  # noqa: S704 - our own file
            plots={name: Markup(drawn) for name, drawn in plots.items()},  # noqa: S704 - escaped in plot
            head=words.HEAD,
            legend=words.LEGEND,
            rows=[(artifact, words.row(artifact)) for artifact in report.artifacts],
            answers=answers(report.source.scenarios),
        )
    )


def _point(artifact: ArtifactResult) -> plot.Point | None:
    verdict = "failed" if artifact.verdict == "failed" else "good"
    return plot.Point.of(artifact.name, artifact.size_bytes, artifact.quality, verdict)


def answers(scenarios: Scenarios | None) -> dict[tuple[str, str, str], Transcript]:
    """Return the source's transcripts by dialogue, to show next to an artifact's."""
    return {key(each): each for each in (scenarios.transcripts if scenarios else ())}


def key(transcript: Transcript) -> tuple[str, str, str]:
    """Return what identifies a dialogue: scenario, language and name."""
    return transcript.scenario, transcript.language, transcript.dialogue


def anchor(artifact: ArtifactResult, transcript: Transcript) -> str:
    """Return the page's anchor for a transcript."""
    return "-".join((artifact.name, *key(transcript))).replace("_", "-").replace(" ", "-")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": words.size,
        "share": words.share,
        "value": words.value,
        "unmeasured": words.unmeasured,
        "verdict": words.verdict,
        "limits": markdown.LIMITS.get,
        "figures": lambda artifact: list(markdown.figures(artifact)),
        "scores": markdown.scores,
    }
    environment.globals |= {"anchor": anchor, "key": key, "ends": words.ENDS}
    return environment
