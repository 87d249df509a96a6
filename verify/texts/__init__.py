"""Texts of six kinds that probabilities are compared on: written for this, or generated from a seed."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).parent
SEED = 20_261_126
# As the recipe names them; those without a file are generated.
KINDS = ("prose", "science", "code", "tools", "long", "chinese")
BYTES_PER_TOKEN = 5  # of what is generated; more text than is asked for does no harm

TOOLS: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "get_weather": {"city": ("Lisbon", "Osaka", "Nairobi", "Quito", "Tromsø"), "unit": ("celsius", "kelvin")},
    "search_orders": {"customer_id": (10482, 77120, 39004), "status": ("open", "shipped", "returned")},
    "convert_currency": {"amount": (12.5, 990, 1045.75), "from": ("EUR", "JPY"), "to": ("USD", "CHF")},
    "create_event": {
        "title": ("Review", "Dentist", "Launch"),
        "minutes": (15, 45, 90),
        "online": (True, False),
    },
    "query_table": {"table": ("sales", "users"), "limit": (10, 500), "order_by": ("date", "total", None)},
}
KEEPERS = ("Okafor", "Lindqvist", "Moreau", "Tanaka", "Abara", "Novak", "Silva", "Hansen")
PLACES = (
    "north gate",
    "glass house",
    "old mill",
    "east pier",
    "archive",
    "workshop",
    "upper terrace",
    "well",
)
DEEDS = (
    "counted {n} crates and signed for all but {m} of them",
    "replaced the lamp after {n} hours of use and noted a loss of {m} percent",
    "measured {n} millimeters of rain, which is {m} more than the week before",
    "repaired {n} of the {m} hinges that had rusted through",
    "wrote to the office about invoice {n} and received answer {m} the same day",
    "planted {n} rows of beans and kept {m} seeds for the spring",
)
REMARKS = (
    "Nothing else was out of order.",
    "The report of the previous day was confirmed.",
    "This should be looked at again before the frost.",
    "The key was returned to its hook.",
    "Visitors were asked to use the other path.",
)


def text_of(kind: str, tokens: int) -> str:
    """Return a text of a kind, of at least so many tokens where it is generated."""
    most_bytes = tokens * BYTES_PER_TOKEN
    if kind == "tools":
        return _until(most_bytes, _tool_calls())
    if kind == "long":
        return _until(most_bytes, entries())
    return (HERE / f"{kind}.txt").read_text("utf-8")


def _until(most_bytes: int, parts: Iterator[str]) -> str:
    found: list[str] = []
    size = 0
    while size < most_bytes:
        found.append(next(parts))
        size += len(found[-1].encode())
    return "\n".join(found)


def _tool_calls() -> Iterator[str]:
    """Yield what a model reads and writes when it calls tools: a schema, a call, its result."""
    draw = random.Random(SEED)  # noqa: S311  (no secret)
    while True:
        name = draw.choice(sorted(TOOLS))
        given = {key: draw.choice(values) for key, values in TOOLS[name].items()}
        kinds = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "string"}
        properties = {key: {"type": kinds[type(values[0])]} for key, values in TOOLS[name].items()}
        parameters = {"type": "object", "properties": properties, "required": sorted(given)[:1]}
        schema = {"type": "function", "function": {"name": name, "parameters": parameters}}
        call = {"id": f"call_{draw.getrandbits(32):08x}", "name": name, "arguments": given}
        rows = [
            {"id": draw.randrange(1000), "value": round(draw.uniform(0, 100), 2), "ok": draw.random() < 0.9}
            for _ in range(draw.randrange(1, 4))
        ]
        yield json.dumps(schema, indent=2 if draw.random() < 0.5 else None)
        yield f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"
        yield f"<tool_response>\n{json.dumps({'rows': rows, 'count': len(rows)})}\n</tool_response>"


def entries() -> Iterator[str]:
    """Yield the entries of a log book without an end, which refer to each other now and then."""
    draw = random.Random(SEED + 1)  # noqa: S311  (no secret)
    number, known = 0, [("Okafor", "well", 1)]
    while True:
        number += 1
        keeper, place = draw.choice(KEEPERS), draw.choice(PLACES)
        deed = draw.choice(DEEDS).format(n=draw.randrange(2, 900), m=draw.randrange(2, 60))
        text = f"Entry {number}. At the {place}, {keeper} {deed}. {draw.choice(REMARKS)}"
        if draw.random() < 0.3:
            who, where, earlier = draw.choice(known[-40:])
            text += f" See entry {earlier}, by {who}, about the {where}."
        known.append((keeper, place, number))
        yield text
