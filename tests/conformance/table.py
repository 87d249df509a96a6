"""Which family goes into which format, as the tests of both have it: a part of docs/families.md."""

from __future__ import annotations

from collections import defaultdict

from convert.formats import find_format, format_names
from convert.model.families import supported
from tests import tiny


def refusal(name: str, format_name: str) -> str | None:
    """Say why a format cannot express a model, or None where it can."""
    format_, decoder = find_format(format_name), tiny.described(name)
    rendered = format_.renders(decoder)
    if rendered is None:
        return "the runtime has no such family"
    return "; ".join(sorted(decoder.features - rendered) or format_.limits(decoder)) or None


def lines() -> list[str]:
    """Write the table, and below it why cells are empty."""
    formats = format_names()
    table = [f"| family | {' | '.join(formats)} |", f"|---|{'---|' * len(formats)}"]
    reasons: list[str] = []
    for family in supported():
        names = [name for name, config in tiny.CONFIGS.items() if config["model_type"] == family]
        cells, said = [], defaultdict(list)
        for format_name in formats:
            refused = {name: why for name in names if (why := refusal(name, format_name))}
            cells.append("" if family in refused else "✓" if not refused else "✓ in part")
            if family in refused:
                said[refused[family]].append(format_name)
            else:
                for why in dict.fromkeys(refused.values()):
                    said[f"with {why}"].append(format_name)
        reasons += [f"- `{family}`, {', '.join(named)}: {why}" for why, named in said.items()]
        table.append(f"| `{family}` | {' | '.join(cells)} |")
    return [*table, "", "## What is refused", *reasons]
