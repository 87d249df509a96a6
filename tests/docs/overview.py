"""Tables of formats (how many families go into each, and what opens it) and of the checks of answers."""

from __future__ import annotations

from convert.formats import format_names
from convert.formats.shipping import shipping
from convert.model.families import supported
from tests import tiny
from tests.conformance.table import refusal
from verify.runtimes import runtimes_for
from verify.scenarios.checks import CHECKS


def formats() -> str:
    """Write a row for each format."""
    lines = ["| format | families | opened and judged in |", "|---|--:|---|"]
    known = supported()
    for name in format_names():
        refused = {each for each in tiny.CONFIGS if refusal(each, name)}
        taken = [family for family in known if family not in refused]
        part = sum(any(tiny.CONFIGS[each]["model_type"] == family for each in refused) for family in taken)
        count = f"{len(taken)} of {len(known)}" + (f", {part} in part" if part else "")
        lines.append(f"| `{name}` | {count} | {', '.join(runtimes_for(name, name))} |")
    return "\n".join(lines)


def guides() -> str:
    """Write what the card of each format explains."""
    rows = (
        f"| `{name}` | {', '.join(guide.name.split('/', 1)[1] for guide in shipping(name).guides)} |"
        for name in format_names()
    )
    return "\n".join(("| format | the card says how to run it in |", "|---|---|", *rows))


def checks() -> str:
    """Write a row for each check that a pack may ask for."""
    rows = (
        f"| `{name}` | {check.about.removeprefix('Check ').capitalize()} |" for name, check in CHECKS.items()
    )
    return "\n".join(("| check | |", "|---|---|", *rows))
