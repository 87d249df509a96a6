"""Estimates of what was published of Qwen-7B-Chat on one A100 (its card and README, 2023).

The table is a part of docs/choosing.md. The model's script prints the peak
that torch has allocated, in units of 2^30 bytes: the weights of its BF16 files are 14.38 of these.
"""

from __future__ import annotations

from pathlib import Path

from convert.formats import find_format
from convert.pick import memory
from convert.pick.candidate import parse
from convert.pick.known import find_model
from convert.pick.runtime import Holds, find_runtime

GIB = 1 << 30
# 2,048 tokens encoded, and 8,192 generated.
PUBLISHED = {
    "hf": ("BF16", 16.99, 22.53),
    "gptq:8": ("Int8", 11.20, 16.62),
    "gptq:4": ("Int4", 8.21, 13.63),
}


def holds() -> Holds:
    """Find what the runtime of that time holds."""
    return find_runtime("transformers-2023").holds


def estimates(target: str) -> tuple[float, float]:
    """Estimate both figures, in the same unit."""
    known = find_model("Qwen/Qwen-7B-Chat", Path("nowhere"))
    name, options = parse(target)
    weights = find_format(options.format_name).weigh(known.decoder, options, name, known.native)
    assert weights is not None
    weighed = memory.weigh(known.decoder, weights)
    encoded = memory.estimate(known.decoder, weighed, holds(), context=2048 + 1, prompt_tokens=2048)
    generated = memory.estimate(known.decoder, weighed, holds(), context=8192, prompt_tokens=1)
    return encoded.total_bytes / GIB, generated.total_bytes / GIB


def table() -> str:
    """Write published and estimated figures, and the errors."""
    lines = [
        "| | 2,048 encoded: published | estimated | error | 8,192 generated: published | estimated | error |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for target, (title, *published) in PUBLISHED.items():
        cells = [title]
        for said, found in zip(published, estimates(target), strict=True):
            cells += [f"{said:.2f}", f"{found:.2f}", f"{found / said - 1:+.1%}".replace("-", "−")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
