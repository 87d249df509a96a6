"""Gates: a limit and a measurement make a verdict."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from convert.child import Fault, last_words
from convert.recipe import Gates
from verify.scope import Part

Value: TypeAlias = bool | int | float | str | None


# From 2 bits for each 32 of the source, with a margin, to 32 bits for each 16.
SIZE_RATIOS = (0.05, 2.2)

# Python's own stack when a native crashes: it says nothing about the artifact.
FRAMES = ("  File ", "Extension modules:", "Current thread ", "Stack (most recent call")
TAIL_LINES = 4
_PROCESS = re.compile(r"^\(\w+ pid=\d+\) ?")  # of a server that has several


@dataclass(frozen=True)
class Check:
    """One thing that was checked: what was found, what is allowed, and the verdict with its reason."""

    name: str
    measured: Value
    limit: Value
    passed: bool
    why: str


@dataclass(frozen=True)
class Gate:
    """A figure that a recipe can limit: a ceiling, or a floor."""

    name: str
    sentence: str  # with {} for the measurement
    form: str
    is_floor: bool = False


GATES = (
    Gate("smoke_drop", "its share of passed dialogues is {} below the source's", ".1%"),
    Gate("task_drop", "the task that lost most is {} below the source's", ".1%"),
    Gate("ppl_ratio", "its perplexity is {} times the source's", ".4f"),
    Gate("kl_mean", "its KL divergence from the source is {} nats on average", ".5f"),
    Gate("kl_p99", "its KL divergence from the source is {} nats at the 99th percentile", ".4f"),
    Gate("top1", "its most likely token is the source's at {} of positions", ".2%", is_floor=True),
    Gate("size_bytes", "its files have {} bytes", ",d"),
    Gate("ttft_s", "the first token comes after {} s", ".3f"),
    Gate("load_s", "it loads in {} s", ".2f"),
    Gate("prefill_tok_s", "prefill runs at {} tokens/s", ".1f", is_floor=True),
    Gate("decode_tok_s", "decoding runs at {} tokens/s", ".1f", is_floor=True),
    Gate("peak_rss_bytes", "its memory peaks at {} bytes, mapped files included", ",d"),
    Gate("peak_anon_bytes", "its memory peaks at {} bytes without mapped files", ",d"),
)

# What an encoding may lose where the recipe does not say. Coarse encodings have the recipe's defaults; fine
# ones should lose next to nothing, and get stricter limits, or a mistake would pass for coarseness.
ALMOST_EXACT = {"smoke_drop": 0.03, "ppl_ratio": 1.01, "kl_mean": 0.002, "top1": 0.98}
FINE = {"smoke_drop": 0.05, "ppl_ratio": 1.02, "kl_mean": 0.01, "top1": 0.95}
BY_ENCODING: Mapping[str, Mapping[str, float]] = {
    "F32": ALMOST_EXACT,
    "BF16": ALMOST_EXACT,
    "F16": ALMOST_EXACT,
    "Q8_0": FINE,
}


def limits_for(gates: Gates, target: str, dialogues: Part | None = None) -> Gates:
    """Return the recipe's limits, and where it sets none those of the target's encoding.

    Where not all `dialogues` were asked, one of a few may be lost: it says little, however much its share is.
    """
    own = next((limits for name, limits in BY_ENCODING.items() if target.endswith(f"-{name}")), {})
    limits = gates.model_copy(update={k: v for k, v in own.items() if k not in gates.model_fields_set})
    if dialogues and limits.smoke_drop is not None and 0 < dialogues.asked < dialogues.of:
        one = 1 / dialogues.asked
        limits = limits.model_copy(update={"smoke_drop": max(limits.smoke_drop, one)})
    return limits


def judge(limits: Gates, measured: Mapping[str, float | None]) -> tuple[Check, ...]:
    """Return a check for every gate that is set and has been measured."""
    return tuple(
        _judge(gate, limit, measured[gate.name])
        for gate in GATES
        if (limit := getattr(limits, gate.name)) is not None and gate.name in measured
    )


def unmeasured(limits: Gates, measured: Mapping[str, float | None]) -> tuple[str, ...]:
    """Name the gates that are set and have not been measured."""
    return tuple(
        gate.name for gate in GATES if getattr(limits, gate.name) is not None and gate.name not in measured
    )


def _judge(gate: Gate, limit: float, value: float | None) -> Check:
    if value is None or not math.isfinite(value):
        return Check(gate.name, None, limit, passed=False, why="the measurement is not a number")
    passed = value >= limit if gate.is_floor else value <= limit
    shown, allowed = format(value, gate.form), format(limit, gate.form)
    if not passed and shown == allowed:  # rounded to the same: the reader must see why it failed
        shown, allowed = f"{value:.9g}", f"{limit:.9g}"
    bound = f"at least {allowed} is required" if gate.is_floor else f"at most {allowed} is allowed"
    why = gate.sentence.format(shown) + ("" if passed else f"; {bound}")
    return Check(gate.name, value, limit, passed, why)


def equal(name: str, found: Value, wanted: Value, what: str) -> Check:
    """Check that something is as in the source."""
    if found == wanted:
        return Check(name, found, wanted, passed=True, why=f"{what} is the source's")
    why = f"{what} is {_shown(found)}; the source's is {_shown(wanted)}"
    return Check(name, found, wanted, passed=False, why=why)


def size_ratio(size_bytes: int, source_bytes: int) -> Check:
    """Check by size that nothing is missing or there twice."""
    ratio = size_bytes / source_bytes
    low, high = SIZE_RATIOS
    passed = low <= ratio <= high
    why = f"its files have {ratio:.3g} times the source's size"
    why += "" if passed else f"; {low} to {high} times is plausible"
    return Check("size_ratio", round(ratio, 4), f"{low} to {high}", passed, why)


def failed(name: str, fault: Fault) -> Check:
    """Return the failed check of a process that gave no answer."""
    lines = [_PROCESS.sub("", line) for line in fault.stderr_tail]
    words = [line.strip() for line in lines if line.strip() and not line.startswith(FRAMES)]
    tail = " | ".join(last_words(words, TAIL_LINES))
    why = fault.reason + (f" (stderr: {tail})" if tail else "")
    return Check(name, fault.kind.value, "an answer", passed=False, why=why)


def _shown(value: Value) -> str:
    return "none" if value is None else repr(value) if isinstance(value, str) else str(value)
