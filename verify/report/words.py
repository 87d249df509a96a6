"""Figures and names as people read them, the same in every rendering."""

from convert.size import duration
from convert.size import size as decimal_size
from verify.gates import Value
from verify.quality import Interval
from verify.report import ArtifactResult, Copy, QuantizedSource, Scenarios, SourceResult, Verdict
from verify.sample import Spread
from verify.scope import Scope

NONE = "—"
# The columns of the table of verdicts, each explained; short enough for a terminal of 80.
COLUMNS = {
    "artifact": "what was verified, by its name in the recipe",
    "size": "of all its files",
    "KL": "mean KL divergence from the source's probabilities of the next token, in nats; 0 is the same",
    "top-1": "share of positions where its most likely token is the source's",
    "ppl": "its perplexity over the source's; below 1 is as far from the source as above 1, and not better",
    "smoke": "share of dialogues whose required checks all passed",
    "tok/s": "tokens a second of one answer",
    "memory": "at its peak with one request, mapped files included",
    "verdict": "passed: every check and every gate that is set; inconclusive: a gate was not measured",
}
# Those of a page to choose on.
CHOSEN = {
    "needs": "memory on the chosen machine at the chosen context; ~ where it is estimated",
    "there": "its speed on the chosen machine for each user, or why it is not the answer",
}
HEAD = tuple(COLUMNS)
SPEEDS = ("ttft_s", "load_s", "prefill_tok_s", "decode_tok_s")
LEFT = ("artifact", "verdict")  # the others are figures
LEGEND = "; ".join(f"{title}: {what}" for title, what in COLUMNS.items() if title not in LEFT) + "."
# Why an answer ended, by the runtime's word.
ENDS = {"end": "end of turn", "stop": "stop string", "length": "token limit", "loop": "repetition"}


def scope(found: Scope) -> str:
    """Say how much was asked, and in what time."""
    asked = ", ".join(f"{words} {what}" for what, words in found.words().items())
    took = f" in {duration(round(found.took_s))}" if found.took_s is not None else ""
    if found.is_whole:
        return f"{asked}{took}"
    limit = f" of the {duration(round(found.limit_s))} it may take" if found.limit_s is not None else ""
    return f"{asked}{took}{limit}; the rest was left out"


def answered_by(copy: Copy) -> str:
    """Say whether a faster copy was asked in the source's place, and why."""
    if not copy.is_asked:
        return f"its own; a faster copy could not be asked: {copy.why}"
    where = f" in {copy.opened.runtime}" if copy.opened else ""
    return f"those of a faster copy{where}: {copy.why}, on average over {copy.positions} positions"


def row(artifact: ArtifactResult) -> tuple[str, ...]:
    """Return one artifact's row in the table of verdicts."""
    scenarios = artifact.scenarios
    return (artifact.name, size(artifact.size_bytes), *_cells(artifact, scenarios), verdict(artifact.verdict))


def quantized_row(found: QuantizedSource, source: SourceResult) -> tuple[str, ...]:
    """Return the row of the source quantized when it is opened: its files are the source's."""
    return (f"({found.name})", size(source.size_bytes), *_cells(found, None), NONE)


def _cells(found: ArtifactResult | QuantizedSource, scenarios: Scenarios | None) -> tuple[str, ...]:
    quality, speed, memory = found.quality, found.speed, found.memory
    return (
        number(quality.kl_mean if quality else None),
        share(quality.top1 if quality else None),
        f"{quality.ppl_ratio:.3f}×" if quality else NONE,
        share(scenarios.smoke if scenarios else None),
        number(speed.decode_tok_s.median if speed and speed.decode_tok_s else None),
        size(memory.peak_rss_bytes if memory else None),
    )


def source_row(source: SourceResult) -> tuple[str, ...]:
    """Return the source's row, which artifacts are compared with."""
    speed, memory = source.speed, source.memory
    return (
        "(source)",
        size(source.size_bytes),
        *(NONE, NONE, NONE),
        share(source.scenarios.smoke if source.scenarios else None),
        number(speed.decode_tok_s.median if speed and speed.decode_tok_s else None),
        size(memory.peak_rss_bytes if memory else None),
        NONE,
    )


def verdict(found: Verdict) -> str:
    """Show a verdict, the bad one loudly."""
    return "FAILED" if found == "failed" else found


def unmeasured(artifact: ArtifactResult) -> str:
    """List the gates that nothing could be measured for, and why as far as that is known."""
    idle = " (the source passes next to no dialogue, so none can be lost)" if artifact.scenarios else ""
    busy = " (other programs kept the machine busy)" if artifact.speed and artifact.speed.is_busy else ""
    reasons = {"smoke_drop": idle} | dict.fromkeys(SPEEDS, busy)
    return ", ".join(f"{gate}{reasons.get(gate, '')}" for gate in artifact.unmeasured)


def size(size_bytes: float | None) -> str:
    """Show a size in bytes."""
    return NONE if size_bytes is None else decimal_size(size_bytes)


def share(value: float | None) -> str:
    """Show a share in percent."""
    return NONE if value is None else f"{100 * value:.{0 if value in (0, 1) else 1}f} %"


def number(value: float | None) -> str:
    """Show three or four significant digits."""
    if value is None:
        return NONE
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:,.{3 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def spread(value: Spread | None, unit: str) -> str:
    """Show a median and the quartiles around it."""
    if value is None:
        return NONE
    around = f" ({number(value.low)} to {number(value.high)})" if value.count > 1 else ""
    return f"{number(value.median)}{unit}{around}"


def within(value: float, interval: Interval | None, *, is_share: bool = False) -> str:
    """Show a figure and its interval."""
    show = share if is_share else number
    around = f" ({show(interval.low)} to {show(interval.high)})" if interval else ""
    return f"{show(value)}{around}"


def value(found: Value) -> str:
    """Show what a check measured or allows."""
    if found is None:
        return NONE
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, str):
        return found
    if isinstance(found, int):
        return f"{found:,}"
    return number(found)
