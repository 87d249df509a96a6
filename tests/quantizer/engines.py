"""Engines that the quantizer's process may run in the place of GPTQModel: one that works, and bad ones."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.checkpoint import open_checkpoint
from convert.errors import Failure
from convert.quantizer.job import MODEL, RESULT, take_over

if TYPE_CHECKING:
    from pathlib import Path

Tell = Callable[[dict[str, Any]], None]


def well(work: Path, tell: Tell) -> dict[str, Any]:
    """Write what GPTQModel would, machine paths and all, with every number zero."""
    asked, windows = take_over(work)
    config = json.loads((work / MODEL / "config.json").read_text())
    made: dict[str, tuple[str, tuple[int, ...]]] = {}
    with open_checkpoint(work / MODEL) as checkpoint:
        for name, info in checkpoint.tensors.items():
            if ".layers." in name and len(info.shape) == 2:
                rows, columns = info.shape
                stem = name.removesuffix("weight")
                made[stem + "scales"] = ("F16", (columns // 32, rows))
                made[stem + "qweight"] = ("I32", (columns // 8, rows))
            elif name != asked.get("left_out"):
                made[name] = (info.dtype, info.shape)
    tell({"share": 0.5, "layer": 0})
    tell({"share": 1.0})
    (work / RESULT).mkdir()
    write(work / RESULT / "model.safetensors", made)
    told = {
        "bits": asked["bits"],
        "meta": {"offload_to_disk_path": str(work), "quantizer": ["fake:1"], "damp_percent": 0.05},
        "quant_method": asked["method"],
    }
    (work / RESULT / "quantize_config.json").write_text(json.dumps(told))
    (work / RESULT / "quant_log.csv").write_text("time")
    layers = range(config["num_hidden_layers"])
    matrices = [{"name": f"{layer}.mlp.up_proj", "loss": 0.5, "damp": 0.05} for layer in layers]
    tools = {"windows": json.dumps(windows), "auto_map": str(config.get("auto_map"))}
    return {"matrices": matrices, "device": "cpu", "tools": tools}


def write(path: Path, made: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    """Zeros, under a header in no order, with more metadata than is shipped."""
    sizes = {"F16": 2, "I32": 4, "BF16": 2, "F32": 4}
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "host": "of this machine"}}
    start = 0
    for name in sorted(made, reverse=True):
        dtype, shape = made[name]
        end = start + sizes[dtype] * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(start))


def incomplete(work: Path, tell: Tell) -> dict[str, Any]:
    """Leave one tensor out."""
    path = work / "job.json"
    asked = json.loads(path.read_text())
    path.write_text(json.dumps({**asked, "left_out": "model.norm.weight"}))
    return well(work, tell)


def crashes(_work: Path, _tell: Tell) -> dict[str, Any]:
    """Read where nothing is."""
    ctypes.string_at(0)
    raise AssertionError


def is_killed(_work: Path, _tell: Tell) -> dict[str, Any]:
    """Die as the kernel lets those die who have too much."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def has_no_memory(_work: Path, _tell: Tell) -> dict[str, Any]:
    """Ask for more than there is."""
    raise MemoryError


def has_no_gpu_memory(_work: Path, _tell: Tell) -> dict[str, Any]:
    """Say what torch says."""
    raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def gives_up(_work: Path, _tell: Tell) -> dict[str, Any]:
    """End the process from a thread, as GPTQModel does, between two redraws of its progress bar."""
    bar = "\rQuantizing layer 0 of 3 [0 of 3] █░░ | 0:00:00 / 0:00:00 [1/4] 25.0%"
    print(f"{bar}\nRuntimeError: sizes do not fit{bar}", file=sys.stderr, flush=True)
    os._exit(1)


def says_nothing(_work: Path, _tell: Tell) -> dict[str, Any]:
    """End as an interpreter does that cannot write what it wants to say."""
    os._exit(120)


def runs_out_in_a_thread(_work: Path, _tell: Tell) -> dict[str, Any]:
    """The same, for want of memory."""
    print("RuntimeError: DefaultCPUAllocator: can't allocate memory", file=sys.stderr, flush=True)
    os._exit(1)


def refuses(_work: Path, _tell: Tell) -> dict[str, Any]:
    """Say no, in words."""
    raise Failure("no GPU here", "take another machine")


def raises(_work: Path, _tell: Tell) -> dict[str, Any]:
    """Run into what nobody foresaw."""
    raise ValueError("a shape\nthat does not fit")


def calls_out(_work: Path, _tell: Tell) -> dict[str, Any]:
    """Reach for the network."""
    socket.create_connection(("127.0.0.1", 9), timeout=1)
    raise AssertionError


def tells_environment(work: Path, tell: Tell) -> dict[str, Any]:
    """Say what it was given."""
    result = well(work, tell)
    given = {**os.environ, "cwd": os.getcwd(), "sys.path": sys.path}  # noqa: PTH109
    return {**result, "tools": {"environment": json.dumps(given)}}


def hangs(work: Path, _tell: Tell) -> dict[str, Any]:
    """Start a helper, leave word of both, and wait."""
    helper = subprocess.Popen(["sleep", "100"])
    (work.parent / "pids").write_text(f"{os.getpid()} {helper.pid}")
    time.sleep(100)
    raise AssertionError
