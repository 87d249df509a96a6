"""What an artifact is called on its card."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from convert.publish.bundle import Candidate
    from convert.store import FileEntry

# Below it a file is a vocabulary or a list, not what takes room.
LEAST_BYTES = 1 << 20


def label(candidate: Candidate) -> str:
    """The target without its format, which the whole repo shares: Q4_K_M."""
    return candidate.target.partition("-")[2] or candidate.target


def weights(candidate: Candidate) -> tuple[FileEntry, ...]:
    """The files that hold the model: of GGUF those of the quant's name, elsewhere the big ones."""
    files = candidate.manifest.files
    if candidate.manifest.format == "gguf":
        ours = re.compile(rf".*-{re.escape(label(candidate))}(-\d{{5}}-of-\d{{5}})?\.gguf")
        named = tuple(file for file in files if ours.fullmatch(file.path))
        return named or tuple(file for file in files if file.path.endswith(".gguf"))
    big = tuple(file for file in files if file.size_bytes >= LEAST_BYTES)
    return big or files
