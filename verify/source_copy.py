"""A faster copy of the source: a GGUF of 16 bits in llama.cpp.

It reads and writes by the source's own tokenizer, and is asked in its place where its odds are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from convert.errors import Failure
from convert.store import inspect_file
from verify.choice import spread
from verify.judgment import KL_LIMIT
from verify.logprobs import Reference, compare_logits
from verify.quality import summarize
from verify.report import Copy, Opened
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from verify.logprobs import Windows
    from verify.pilot import Rates
    from verify.quality import Quality

RUNTIME = "llama_cpp"
# The first is closer to float32; the numbers of a few models are too large for it.
TYPES = ("F16", "BF16")
SAMPLE = 2  # windows
# What both must say of themselves; tokens and template are the source's own.
ALIKE = ("vocab_size", "context", "eog_ids", "adds_bos")
# A source that takes less to ask is asked itself.
WORTH_S = 60.0
# Of the time that there is, or that the source would take: a copy that takes more to make is not made.
SHARE = 0.2
MADE_BYTES_S = 1e8


# Converts the source to a file of the type that is named, or raises a Failure.
Maker: TypeAlias = Callable[[str, Path], None]


def sample_of(windows: Windows) -> Windows:
    """Choose the windows that a copy is compared on."""
    return windows.only(sorted(spread(len(windows.ids))[:SAMPLE]))


def is_worth(size_bytes: int, rates: Rates, asking_s: float, left_s: float) -> bool:
    """Say whether a copy is expected to save more time than it takes."""
    cost_s = size_bytes / MADE_BYTES_S + 2 * SAMPLE * rates.window_s
    return asking_s > WORTH_S and cost_s < SHARE * min(asking_s, left_s)


def open_copy(
    make: Maker, name: Path, like: Worker, sample: Reference, tokenizer: Path
) -> tuple[Copy, Worker | None]:
    """Make a copy of one type after the other, until one has the odds of the open source."""
    found = Copy()
    settings = replace(like.launch.settings, options={"tokenizer": str(tokenizer.absolute())})
    for quant in TYPES:
        file = name.with_name(f"{name.name}-{quant}.gguf")
        try:
            if not file.is_file():
                make(quant, file)
            inspect_file(file)  # natives may crash on a damaged one
            worker = Worker(Launch(RUNTIME, file.absolute(), settings, like.launch.limits))
        except Failure as failure:
            found = Copy(why=failure.message)
            continue
        found = _compared(worker, like, sample)
        if found.is_asked:
            return found, worker
        worker.close()
        file.unlink(missing_ok=True)
    return found, None


def _compared(worker: Worker, like: Worker, sample: Reference) -> Copy:
    found = Copy(opened=Opened.of(worker))
    wrong = [name for name in ALIKE if getattr(worker.info, name) != getattr(like.info, name)]
    if wrong:
        return found.model_copy(update={"why": f"its {wrong[0]} is not the source's"})
    try:
        odds = summarize(compare_logits(worker, sample), sample.windows.length)
    except Failure as failure:
        return found.model_copy(update={"why": failure.message})
    return found.model_copy(update=_figures(odds))


def _figures(odds: Quality) -> dict[str, object]:
    is_same = odds.kl_mean < KL_LIMIT
    how = "less" if is_same else "no less"
    why = f"its odds differ from the source's by {odds.kl_mean:.1e} nats, {how} than {KL_LIMIT:g}"
    return {
        "kl_mean": odds.kl_mean,
        "kl_max": odds.kl_max,
        "positions": odds.positions,
        "is_asked": is_same,
        "why": why,
    }
