"""Compile kernels in a child process, into a cache from which any process then takes them."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from convert.extras import installed

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from convert.child.channel import Channel, Header


def cache_folder(cache: Path) -> Path:
    """Name the folder for this source, numba, Python and CPU: what is there fits, and all of it."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    settings = sorted(f"{name}={value}" for name, value in settings_of_numba().items())
    for part in (installed("numba"), sys.version, os.path.realpath(__file__), _cpu(), *settings):
        digest.update(f"\0{part}".encode())
    return cache / "kernels" / digest.hexdigest()[:16]


def settings_of_numba() -> dict[str, str]:
    """Return the variables that numba reads."""
    return {name: value for name, value in os.environ.items() if name.startswith("NUMBA_")}


def is_compiled(name: str, folder: Path) -> bool:
    """Tell whether a kernel is in the cache."""
    return (folder / name).is_file()


def load(name: str, folder: Path) -> Any:
    """Take a kernel from the cache; what is not there is compiled now."""
    import numba  # noqa: PLC0415 - a quarter of a second

    folder.mkdir(parents=True, exist_ok=True)
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    # numba looks whether scipy's BLAS is there, which no kernel calls: another quarter of a second.
    is_hidden = sys.modules.setdefault("scipy.linalg", cast("ModuleType", None)) is None
    try:
        module = importlib.import_module(f"convert.writer.codecs.lanes.{name.lower()}")
    finally:
        numba.config.CACHE_DIR = before
        if is_hidden:
            del sys.modules["scipy.linalg"]
    (folder / name).touch()  # numba has put it there, or found it
    return module.encode


def serve(_: Channel) -> Callable[[str, Header], Header]:
    """Answer in the child: compile a kernel."""

    def compile_one(name: str, args: Header) -> Header:
        load(name, Path(args["folder"]))
        return {}

    return compile_one


def _cpu() -> str:
    """Describe the CPU and its instruction set; a home folder may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("model name", "flags", "CPU part", "Features")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))
