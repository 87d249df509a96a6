"""What every runtime is asked, and how one is opened to be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from convert.child import Limits
from verify.runtimes import RuntimeSettings
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LIMITS = Limits(open_s=120, request_s=60)
TEXT = "太阳系有八颗行星。 The largest is Jupiter"
CHAT: tuple[dict[str, str], ...] = (
    {"role": "system", "content": "你是一个具有丰富教学经验的AI助理"},
    {"role": "user", "content": "太阳系有几颗行星？"},
)
LAID_OUT = (
    "<|im_start|>system\n你是一个具有丰富教学经验的AI助理<|im_end|>\n"
    "<|im_start|>user\n太阳系有几颗行星？<|im_end|>\n<|im_start|>assistant\n"
)


def opened(
    runtime: str, path: Path | str, *, limits: Limits = LIMITS, threads: int = 1, **options: Any
) -> Worker:
    return Worker(Launch(runtime, path, RuntimeSettings(threads=threads, options=options), limits))


def logits(worker: Worker, ids: list[int]) -> NDArray[np.float32]:
    """Return the logits of all positions, once those of the second half alone were found the same."""
    rows, first = np.concatenate([each.copy() for each in worker.logits(ids)]), len(ids) // 2
    late = np.concatenate(list(worker.logits(ids, first)))
    assert late.shape == rows[first:].shape
    # Not of every row: another order of sums may turn a router's choice.
    assert np.median(np.abs(late - rows[first:]).max(axis=1)) < 0.02 * np.abs(rows).max()
    return rows
