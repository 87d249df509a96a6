"""What is asked of GPTQModel and what it answers, and how both cross to the child."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Method = Literal["gptq", "awq"]
Device = Literal["auto", "cpu", "cuda"]

# The contents of the folder that parent and child share.
SETTINGS, TOKENS, MODEL, RESULT, OFFLOAD = "job.json", "tokens.npy", "model", "result", "offload"
# GPTQModel drops what is no longer than this, and says so only to its log.
SHORTEST_WINDOW = 11
AWQ_ROWS = 64  # GPTQModel's oc_batch_size
# GPTQModel takes a joined matrix of gate and up apart under these names, and reads it so again, as vLLM does.
HALVES = ("gate_proj", "up_proj")
NOT_SENT = frozenset({"source", "out", "matrices", "windows", "left"})


@dataclass(frozen=True)
class Matrix:
    """A matrix of a layer, which is quantized."""

    name: str
    rows: int  # out
    columns: int  # in
    is_transposed: bool = False  # stored (in, out)
    is_joined: bool = False  # several matrices in one
    is_gated: bool = False  # joined of gate and up

    def results(self) -> tuple[str, ...]:
        """List the matrices that GPTQModel makes of it, by name."""
        stem = self.name.rpartition(".")[0]
        return tuple(f"{stem}.{half}" for half in HALVES) if self.is_gated else (self.name,)


@dataclass(frozen=True)
class Job:
    """One quantization: from a canonical folder to one where an artifact is built.

    While it runs, everything temporary is within `out`, so that a sweep after a killed build finds all of it.
    """

    source: Path  # config.json and safetensors by canonical names
    out: Path
    method: Method
    windows: tuple[NDArray[np.int32], ...] = field(repr=False)
    matrices: Sequence[Matrix] = field(repr=False)
    bits: int = 4
    group_size: int = 128  # -1: a whole row
    desc_act: bool = False
    sym: bool = True
    damp: float | None = None  # None: GPTQModel's own
    device: Device = "auto"
    seed: int = 0
    threads: int | None = None
    left: Sequence[str] = ()  # matrices of layers that stay as they are
    # Whether a matrix that no token reached is rounded plainly: of many experts some may be chosen for none.
    may_round: bool = False


@dataclass(frozen=True)
class Quantized:
    """One matrix that was quantized."""

    name: str
    loss: float | None  # on the calibration windows; None where the method has none
    damp: float | None  # what it took: more than was asked where the Hessian could not be inverted
    is_rounded: bool = False  # plainly, for no token reached it


@dataclass(frozen=True)
class Outcome:
    """The result of a job, besides the files."""

    matrices: tuple[Quantized, ...]
    device: str  # "cpu", or "cuda" and its name
    tools: dict[str, str]
    peak_rss_bytes: int


def refusal(method: Method, matrices: Sequence[Matrix]) -> str | None:
    """Say why GPTQModel 7.6 cannot quantize these matrices; found by trying."""
    if method == "gptq":
        return None
    for matrix in matrices:
        if matrix.is_transposed:
            return f"{matrix.name} is stored transposed, and GPTQModel's AWQ takes it for another matrix"
        if matrix.is_joined:
            return f"{matrix.name} is several matrices fused, and GPTQModel's AWQ loses its zero points"
        if matrix.rows % AWQ_ROWS:
            return f"{matrix.name} has {matrix.rows} rows, and AWQ's search for clips goes by {AWQ_ROWS}"
    return None


def hand_over(job: Job, work: Path) -> None:
    """Write the settings and the windows for the child."""
    settings = {name: value for name, value in vars(job).items() if name not in NOT_SENT}
    settings["lengths"] = [len(window) for window in job.windows]
    (work / SETTINGS).write_text(json.dumps(settings), "utf-8")
    np.save(work / TOKENS, np.concatenate(job.windows).astype(np.int32), allow_pickle=False)


def take_over(work: Path) -> tuple[dict[str, Any], list[list[int]]]:
    """Read the settings and the windows, in the child."""
    settings = json.loads((work / SETTINGS).read_text("utf-8"))
    tokens = np.load(work / TOKENS, allow_pickle=False)
    ends = np.cumsum(settings["lengths"])[:-1]
    return settings, [window.tolist() for window in np.split(tokens, ends)]
