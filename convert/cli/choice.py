"""An answer of `pick` for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.cli.text import fitting_table, paragraph
from convert.pick import commands
from convert.pick.sentence import figures, heading, rate, reason
from convert.recipe.span import AUTO, span_s
from convert.size import duration, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convert.pick.candidate import Candidate
    from convert.pick.fit import Fit
    from convert.pick.rank import Answer

HEAD = ("candidate", "weights", "KV", "total", "room", "tok/s", "KL", "state")
RIGHT = "weights KV total room tok/s KL"
# The order in which columns leave a terminal that is too narrow for all.
LEAVING = ("KL", "KV", "weights")
# Rows of those that could be the answer, and of those that could not.
SHOWN, MISSED = 8, 4


def lines(found: Answer) -> Iterator[str]:
    """Write the answer, its commands and its reason, and the table of all candidates."""
    yield heading(found)
    if found.answer:
        yield from _taken(found, found.answer)
    else:
        yield from _nothing(found)
    yield ""
    shown = _shown(found.fits)
    yield from fitting_table(HEAD, list(map(_row, shown)), LEAVING, RIGHT)
    if len(found.fits) > len(shown):
        yield f"and {len(found.fits) - len(shown)} more: --json has them all"
    errors = sorted({each.memory.error for each in shown if not each.memory.is_measured})
    if errors:
        speed = max(each.speed.error for each in shown)
        yield (
            f"GB; ~ is an estimate: memory within {errors[-1]:.0%}, speed within {speed:.0%}; "
            "KL ~ is what was published of the type"
        )


def _shown(fits: Sequence[Fit]) -> list[Fit]:
    """Choose the rows: the best that fit, and those that miss by least."""
    fitting_ones = [each for each in fits if each.is_answer]
    missed = sorted((each for each in fits if not each.is_answer), key=lambda one: -one.spare_bytes)
    wanted = [each for each in missed if each.spare_bytes < 0 or not each.fault] or missed
    most = MISSED + max(0, SHOWN - len(fitting_ones))
    return [*fitting_ones[:SHOWN], *wanted[:most]]


def _taken(found: Answer, best: Fit) -> Iterator[str]:
    candidate = best.candidate
    yield "   ".join([f"take  {best.title}", *figures(found, best)])
    if built := commands.build(candidate):
        yield f"      {built}      # {', '.join(_takes(candidate))}"
        yield f"      then: {commands.run(best, found.need)}"
    else:
        yield f"      {commands.run(best, found.need)}"
    if best.runtime.note:
        yield f"      # {best.runtime.note}"
    yield from paragraph(f"why   {reason(found, best)}")


def _takes(candidate: Candidate) -> Iterator[str]:
    """Say what building and verifying it takes, as far as that is known before."""
    if candidate.model.download_bytes and not candidate.is_built:
        yield f"{size(candidate.model.download_bytes)} to download"
    if seconds := None if candidate.is_built or candidate.shipped else _converting_s(candidate):
        yield f"about {duration(seconds)} to convert here"
    most_s = span_s(candidate.recipe.verify.budget if candidate.recipe else AUTO)
    yield f"verification {duration(round(most_s))} at most" if most_s else "verification without a limit"


def _converting_s(candidate: Candidate) -> float | None:
    """Estimate the conversion here; None where a tool does it, whose time depends on its settings."""
    from convert.pipeline.forecast import before_it_is_here  # noqa: PLC0415 - for an answer alone
    from convert.source import Hub  # noqa: PLC0415

    weights = candidate.weights() or ()
    return before_it_is_here(weights, candidate.model.native, Hub.from_environment().notes)


def _nothing(found: Answer) -> Iterator[str]:
    nearest = found.nearest
    if nearest is None:
        yield "none  every candidate has failed its verification"
        return
    why = nearest.why_not
    yield f"none  nearest: {nearest.title}: {why}"
    if found.gives:
        yield f"      what would have to give: {', or '.join(found.gives)}"


def _row(each: Fit) -> tuple[str, ...]:
    candidate, memory = each.candidate, each.memory
    mark = "" if memory.is_measured else " ~"
    kl = f"{candidate.kl:.3f}" if candidate.kl is not None else f"{each.expected_kl:.3f} ~"
    speed = f"{rate(each.speed.user_tok_s)}{'' if each.speed.is_measured else ' ~'}"
    return (
        each.title,
        f"{memory.weights_bytes / 1e9:.2f}",
        "–" if memory.is_measured else f"{memory.cache_bytes / 1e9:.2f}",
        f"{memory.total_bytes / 1e9:.1f}{mark}",
        f"{each.spare_bytes / 1e9:+.1f}".replace("-", "−"),
        speed,
        kl,
        each.why_not or candidate.state,
    )


def data(found: Answer) -> dict[str, Any]:
    """Return the answer for a program."""
    machine = found.machine
    return {
        "machine": {**vars(machine), "gpu": vars(machine.gpu) if machine.gpu else None},
        "need": vars(found.need),
        "answer": _data(found.answer, found) if found.answer else None,
        "reason": reason(found, found.answer) if found.answer else None,
        "nearest": _data(found.nearest, found) if found.nearest else None,
        "gives": list(found.gives),
        "candidates": [_data(each, found) for each in found.fits],
    }


def _data(each: Fit, found: Answer) -> dict[str, Any]:
    candidate, memory, speed = each.candidate, each.memory, each.speed
    return {
        "name": candidate.label,
        "model": candidate.model.name,
        "target": candidate.target,
        "runtime": each.runtime_name,
        "state": candidate.state,
        "report": str(candidate.found.path) if candidate.found else None,
        "fits": each.is_answer,
        "why_not": each.why_not,
        "weights_bytes": round(memory.weights_bytes),
        "cache_bytes": round(memory.cache_bytes),
        "runtime_bytes": round(memory.runtime_bytes),
        "total_bytes": round(memory.total_bytes),
        "memory_is": "measured" if memory.is_measured else "estimated",
        "memory_error": memory.error,
        "room_bytes": round(each.room_bytes),
        "user_tok_s": round(speed.user_tok_s, 2),
        "total_tok_s": round(speed.total_tok_s, 2),
        "first_token_s": round(speed.first_token_s, 2),
        "speed_is": "measured" if speed.is_measured else "estimated",
        "speed_error": speed.error,
        "kl": candidate.kl,
        "expected_kl": each.expected_kl,
        "gpus_per_replica": each.parallel,
        "replicas": each.replicas,
        "sequences": each.sequences,
        "build": commands.build(candidate),
        "run": commands.run(each, found.need),
    }
