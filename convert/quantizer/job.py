"""What is asked of the quantiser and what it answers, and how both cross to a process of its own."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

Method = Literal["gptq", "awq"]
Device = Literal["auto", "cpu", "cuda"]

# What lies in the folder that parent and child share.
ASKED, TOKENS, MODEL, RESULT, SCRATCH, LOG = "job.json", "tokens.npy", "model", "result", "scratch", "log"
# GPTQModel drops what is no longer than this, and says so only to its log.
SHORTEST_WINDOW = 11
PACKAGE = "GPTQModel"
# GPTQModel 7.6: found by trying.
NO_AWQ = {
    "gpt2": "GPTQModel's AWQ takes GPT-2's matrices, which lie transposed, for others",
    "phi3": "GPTQModel's AWQ loses the zero points of Phi-3's fused matrices",
}
AWQ_ROWS = 64  # GPTQModel's oc_batch_size


@dataclass(frozen=True)
class Job:
    """One quantisation: from a canonical folder to one where an artifact grows.

    While it runs, everything temporary lies within `out`, so that whoever sweeps up after a killed build
    needs to know of no other place.
    """

    source: Path  # config.json and safetensors by canonical names
    out: Path
    method: Method
    windows: tuple[NDArray[np.int32], ...] = field(repr=False)
    bits: int = 4
    group_size: int = 128  # -1: a whole row
    desc_act: bool = False
    sym: bool = True
    damp: float | None = None  # None: GPTQModel's own
    device: Device = "auto"
    seed: int = 0
    threads: int | None = None


@dataclass(frozen=True)
class Treated:
    """One matrix that was quantised."""

    name: str
    loss: float | None  # on the calibration windows; None where the method has none
    damp: float | None  # what it took: more than was asked where the Hessian could not be inverted


@dataclass(frozen=True)
class Outcome:
    """What came of a job, besides the files."""

    matrices: tuple[Treated, ...]
    device: str  # "cpu", or "cuda" and its name
    tools: dict[str, str]
    peak_rss_bytes: int
    peak_device_bytes: int  # on the GPU, 0 without one


def refusal(method: Method, model_type: str, rows: Iterable[int]) -> str | None:
    """Why GPTQModel cannot make this of a model whose matrices have these rows; known before any weights."""
    if method == "gptq":
        return None
    if model_type in NO_AWQ:
        return NO_AWQ[model_type]
    odd = next((count for count in rows if count % AWQ_ROWS), None)
    if odd is None:
        return None
    return f"a matrix has {odd} rows, and AWQ's search for clips goes by {AWQ_ROWS}"


def require() -> str:
    """The installed GPTQModel's version; a Failure that names the package where there is none."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        raise Failure(
            f"{PACKAGE} is not installed, and gptq and awq are made by it",
            "install torch==2.13.0 first, then: pip install 'modelwright[gptq]'",
        ) from None


def hand_over(job: Job, work: Path) -> None:
    """Write down for the child what is asked."""
    lengths = [len(window) for window in job.windows]
    asked = {
        "method": job.method,
        "bits": job.bits,
        "group_size": job.group_size,
        "desc_act": job.desc_act,
        "sym": job.sym,
        "damp": job.damp,
        "device": job.device,
        "seed": job.seed,
        "threads": job.threads,
        "lengths": lengths,
    }
    (work / ASKED).write_text(json.dumps(asked), "utf-8")
    np.save(work / TOKENS, np.concatenate(job.windows).astype(np.int32), allow_pickle=False)


def take_over(work: Path) -> tuple[dict[str, Any], list[list[int]]]:
    """Read in the child what is asked, and the windows."""
    asked = json.loads((work / ASKED).read_text("utf-8"))
    tokens = np.load(work / TOKENS, allow_pickle=False)
    ends = np.cumsum(asked["lengths"])[:-1]
    return asked, [window.tolist() for window in np.split(tokens, ends)]
