"""What a node does with an order: look whether it is fit for it, and run the command."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.digest import sha256_of
from convert.errors import Exit
from convert.fleet.order import Order, Outcome
from convert.version import version

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def perform(
    order: Order,
    wanted_version: str,
    gpus: int = 0,
    started: Callable[[subprocess.Popen[str]], None] = lambda _: None,
) -> Outcome:
    """Carry out an order here, in a process that ends with this one; `started` gets that process."""
    node = platform.node()
    if fault := _unfit(order, wanted_version):
        return Outcome(Exit.USAGE, error=f"node {node}: {fault[0]}", hint=fault[1], node=node)
    began_s = time.monotonic()
    command = [sys.executable, "-m", "convert.cli", *_with_recipe(order), "--json"]
    with subprocess.Popen(  # noqa: S603 - our own commands
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - two system calls
    ) as process:
        started(process)
        try:
            out, err = process.communicate()
        except BaseException:
            process.terminate()
            raise
    used, wall_s = _cpu_s(), time.monotonic() - began_s
    answer, said = _json(out), _json(err.strip().rpartition("\n")[2])
    errors = said.get("errors") if said else None
    first: dict[str, Any] = errors[0] if errors else {}
    return Outcome(
        exit_code=process.returncode,
        answer=answer,
        error=str(first.get("error") or (err.strip()[-300:] if process.returncode else "")),
        hint=str(first.get("hint") or ""),
        node=node,
        wall_s=wall_s,
        cpu_s=used,
        gpu_s=gpus * wall_s,
    )


def _unfit(order: Order, wanted_version: str) -> tuple[str, str] | None:
    """Say why this node must not carry out the order."""
    here = version()
    if here != wanted_version:
        return (
            f"has modelwright {here}, and the fleet {wanted_version}",
            "install the same version on all nodes",
        )
    for name, wanted in order.tools.items():
        if (found := _installed(name)) != wanted:
            return (
                f"has {name} {found or 'not at all'}, and the fleet {wanted}",
                "install the same versions on all nodes",
            )
    path = Path(order.recipe_path)
    if order.recipe_text:
        return None
    if not path.is_file():
        return f"does not see {path}", "put recipes and --out in a folder that all nodes share"
    if sha256_of(path) != order.recipe_sha256:
        return f"sees another text in {path}", "nodes must see the same files as the machine that starts them"
    return None


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _with_recipe(order: Order) -> tuple[str, ...]:
    """Put the recipe where this node sees it, if it does not see the file."""
    path = Path(order.recipe_path)
    if not order.recipe_text or (path.is_file() and sha256_of(path) == order.recipe_sha256):
        return order.command
    here = Path(tempfile.gettempdir()) / f"modelwright-{os.getuid()}" / order.recipe_sha256 / path.name
    here.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    unseen = here.with_name(f".{os.getpid()}")
    unseen.write_text(order.recipe_text, encoding="utf-8")
    unseen.replace(here)
    return tuple(str(here) if word == order.recipe_path else word for word in order.command)


def _end_with_parent() -> None:
    """Ask the kernel to end this process when the one that started it dies."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:
        os._exit(1)


def _cpu_s() -> float:
    """Return what children that were waited for have used since the last call."""
    global _seen_s
    times = os.times()
    total_s = times.children_user + times.children_system
    used_s, _seen_s = total_s - _seen_s, total_s
    return used_s


_seen_s = 0.0


def _json(text: str) -> dict[str, Any] | None:
    with suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return None
