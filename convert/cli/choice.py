"""An answer of `pick` for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.cli.text import count, fitting_table, paragraph
from convert.pick import commands
from convert.size import size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convert.pick.fit import Fit
    from convert.pick.rank import Answer

HEAD = ("candidate", "weights", "KV", "total", "room", "tok/s", "KL", "state")
RIGHT = "weights KV total room tok/s KL"
# The order in which columns leave a terminal that is too narrow for all.
LEAVING = ("KL", "KV", "weights")
# Rows of those that could be the answer, and of those that could not.
SHOWN, MISSED = 8, 4
LANGUAGES = {
    "ar": "Arabic", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "it": "Italian",
    "ja": "Japanese", "ko": "Korean", "pt": "Portuguese", "ru": "Russian", "zh": "Chinese",
}  # fmt: skip


def heading(found: Answer) -> str:
    """Say for what machine and need it was chosen."""
    need, machine = found.need, found.machine
    room = f": {size(machine.room_bytes)} for the model" if not machine.gpus else ""
    parts = [f"{machine}{room}", f"{need.context:,} tokens", count(need.users, "user")]
    if need.language:
        parts.append(LANGUAGES.get(need.language, need.language))
    return " · ".join(parts)


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
    is_estimate = not best.speed.is_measured
    speed = f"{'about ' if is_estimate else ''}{_speed(best.speed.user_tok_s)} tok/s"
    if found.need.users > 1:
        speed += f" each, {_speed(best.speed.total_tok_s)} in all"
    kl = "KL not measured" if candidate.kl is None else f"KL {candidate.kl:.3f}"
    room = f"{best.memory.total_bytes / 1e9:.1f} GB of {best.room_bytes / 1e9:.1f}"
    yield f"take  {best.title}   {room}   {speed}   {kl}"
    if built := commands.build(candidate):
        load = size(candidate.model.download_bytes)
        download = f"{load} to download" if candidate.model.download_bytes and not candidate.is_built else ""
        yield f"      {built}" + (f"      # {download}" if download else "")
        yield f"      then: {commands.run(best, found.need)}"
    else:
        yield f"      {commands.run(best, found.need)}"
    if best.runtime.note:
        yield f"      # {best.runtime.note}"
    yield from paragraph(f"why   {reason(found, best)}")


def reason(found: Answer, best: Fit) -> str:
    """Say why it is the answer, and what was passed over."""
    goal = {
        "quality": "the best expected quality of those that fit",
        "speed": "the quickest of those that fit",
        "size": "the smallest of those that fit",
    }
    said = [f"{goal[found.need.goal]} in {best.runtime.title}, with the error of the estimate"]
    if best.parallel > 1:
        said.append(
            f"{best.parallel} GPUs share it, as one has too little room"
            + (f", {best.replicas} times" if best.replicas > 1 else "")
        )
    elif best.replicas > 1:
        said.append(f"one GPU holds it: {best.replicas} replicas behind a load balancer")
    if found.machine.gpus:
        said.append(f"{count(best.sequences, 'text')} of {found.need.context:,} tokens fit at once")
    better = [
        each for each in found.fits
        if each.loss < best.loss and each.is_suited and found.need.goal == "quality"
    ]  # fmt: skip
    for each in sorted(better, key=lambda one: one.memory.total_bytes)[:2]:
        why = each.why_not or (
            "may be too slow" if not each.is_surely_quick else f"runs in {each.runtime.title}"
        )
        if why == "too close to the limit":
            why = "fits only with everything else closed"
        said.append(f"{each.title}: {why}")
    return "; ".join(said)


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
    speed = f"{_speed(each.speed.user_tok_s)}{'' if each.speed.is_measured else ' ~'}"
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


def _speed(tokens: float) -> str:
    return f"{tokens:.0f}" if tokens >= 10 else f"{tokens:.1f}"


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
