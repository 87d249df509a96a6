"""What an artifact is called on its card."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convert.publish.bundle import Candidate
    from convert.store import FileEntry

# What weights lie in; the rest of an artifact says what they are.
SUFFIXES = (".onnx", ".data", ".safetensors")


def label(candidate: Candidate) -> str:
    """The target without its format, which the whole repo shares: Q4_K_M."""
    return candidate.target.partition("-")[2] or candidate.target


def weights(candidate: Candidate) -> tuple[FileEntry, ...]:
    """The files that hold the model: of GGUF those named by the quant, a matrix may lie beside."""
    files = candidate.manifest.files
    if candidate.manifest.format == "gguf":
        ours = re.compile(rf".*-{re.escape(label(candidate))}(-\d{{5}}-of-\d{{5}})?\.gguf")
        named = tuple(file for file in files if ours.fullmatch(file.path))
        return named or tuple(file for file in files if file.path.endswith(".gguf"))
    return tuple(file for file in files if file.path.endswith(SUFFIXES)) or files
