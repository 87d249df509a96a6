"""A limit and a measurement make a verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.child import Fault
    from convert.recipe import Gates

Value: TypeAlias = bool | int | float | str | None


# Two bits for what were 32, with something to spare, to 32 for what were 16.
SIZE_RATIOS = (0.05, 2.2)

# What Python says of its own stack when a native crashes under it: nothing about the artifact.
FRAMES = ("  File ", "Extension modules:", "Current thread ", "Stack (most recent call")
TAIL_LINES = 4


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, what was found, what is allowed, and the verdict in words."""

    name: str
    measured: Value
    limit: Value
    passed: bool
    why: str


@dataclass(frozen=True)
class Gate:
    """A figure that a recipe can limit: a ceiling, or a floor."""

    name: str
    said: str  # with {} for the measurement
    form: str
    is_floor: bool = False


GATES = (
    Gate("smoke_drop", "it passes {} fewer of the dialogues than the source", ".1%"),
    Gate("ppl_ratio", "its perplexity is {} times the source's", ".4f"),
    Gate("kl_mean", "its odds are {} nats from the source's on average", ".5f"),
    Gate("kl_p99", "its odds are {} nats from the source's at the 99th percentile", ".4f"),
    Gate("top1", "its most likely token is the source's in {} of places", ".2%", is_floor=True),
    Gate("size_bytes", "its files take {} bytes", ",d"),
    Gate("ttft_s", "the first token comes after {} s", ".3f"),
    Gate("load_s", "it loads in {} s", ".2f"),
    Gate("prefill_tok_s", "it reads {} tokens a second", ".1f", is_floor=True),
    Gate("decode_tok_s", "it writes {} tokens a second", ".1f", is_floor=True),
    Gate("peak_rss_bytes", "it takes {} bytes of memory, mapped files among them", ",d"),
    Gate("peak_anon_bytes", "it takes {} bytes of memory beside mapped files", ",d"),
)

# What a target may lose where the recipe does not say: coarse quants have the recipe's own defaults, and one
# that should lose next to nothing is held to that, since a mistake in it would pass for coarseness.
NEXT_TO_NOTHING = {"smoke_drop": 0.03, "ppl_ratio": 1.01, "kl_mean": 0.002, "top1": 0.98}
LITTLE = {"smoke_drop": 0.05, "ppl_ratio": 1.02, "kl_mean": 0.01, "top1": 0.95}
BY_ENCODING: Mapping[str, Mapping[str, float]] = {
    "F32": NEXT_TO_NOTHING,
    "BF16": NEXT_TO_NOTHING,
    "F16": NEXT_TO_NOTHING,
    "Q8_0": LITTLE,
}


def limits_for(gates: Gates, target: str) -> Gates:
    """The recipe's limits, and for what it leaves open those of the target's encoding."""
    own = BY_ENCODING.get(target.partition("-")[2], {})
    return gates.model_copy(update={k: v for k, v in own.items() if k not in gates.model_fields_set})


def judge(limits: Gates, measured: Mapping[str, float | None]) -> tuple[Check, ...]:
    """A check for every gate that is set and whose figure could be taken in this runtime."""
    checks = []
    for gate in GATES:
        limit = getattr(limits, gate.name)
        if limit is not None and gate.name in measured:
            checks.append(_judged(gate, limit, measured[gate.name]))
    return tuple(checks)


def unmeasured(limits: Gates, measured: Mapping[str, float | None]) -> tuple[str, ...]:
    """The gates that are set and have nothing to judge."""
    return tuple(
        gate.name for gate in GATES if getattr(limits, gate.name) is not None and gate.name not in measured
    )


def _judged(gate: Gate, limit: float, value: float | None) -> Check:
    if value is None or not math.isfinite(value):
        return Check(gate.name, None, limit, passed=False, why="what was measured is no number")
    passed = value >= limit if gate.is_floor else value <= limit
    shown, allowed = format(value, gate.form), format(limit, gate.form)
    if not passed and shown == allowed:  # rounded away: a verdict must be seen to follow
        shown, allowed = f"{value:.9g}", f"{limit:.9g}"
    bound = f"at least {allowed} is asked for" if gate.is_floor else f"at most {allowed} is allowed"
    why = gate.said.format(shown) + ("" if passed else f"; {bound}")
    return Check(gate.name, value, limit, passed, why)


def equal(name: str, found: Value, wanted: Value, what: str) -> Check:
    """The check that something is as in the source."""
    passed = found == wanted
    why = (
        f"{what} is the source's" if passed else f"{what} is {_said(found)}, and the source's {_said(wanted)}"
    )
    return Check(name, found, wanted, passed, why)


def size_ratio(size_bytes: int, source_bytes: int) -> Check:
    """The check that nothing is missing and nothing stands there twice."""
    ratio = size_bytes / source_bytes
    low, high = SIZE_RATIOS
    passed = low <= ratio <= high
    why = f"its files take {ratio:.3g} times what the source's take"
    why += "" if passed else f"; from {low} to {high} times can be"
    return Check("size_ratio", round(ratio, 4), f"{low} to {high}", passed, why)


def failed(name: str, fault: Fault) -> Check:
    """The check that a process did not live to answer."""
    words = [line for line in fault.stderr_tail if line.strip() and not line.startswith(FRAMES)]
    tail = " | ".join(words[-TAIL_LINES:])
    return Check(
        name,
        fault.kind.value,
        "an answer",
        passed=False,
        why=fault.reason + (f" (stderr: {tail})" if tail else ""),
    )


def _said(value: Value) -> str:
    return "none" if value is None else repr(value) if isinstance(value, str) else str(value)
