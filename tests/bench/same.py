"""Count what differs in what two routes left."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def same_tensors(ours: Path, theirs: Mapping[str, Path]) -> dict[str, int]:
    """Count the tensors whose type or bytes are not llama.cpp's."""
    count = differing = 0
    for quant, path in theirs.items():
        (mine,) = ours.rglob(f"*{quant}.gguf")
        a, b = ({each.name: each for each in gguf.GGUFReader(file).tensors} for file in (mine, path))
        differing += len(a.keys() ^ b.keys())
        for name in a.keys() & b.keys():
            count += 1
            is_same = a[name].tensor_type == b[name].tensor_type and np.array_equal(
                a[name].data, b[name].data
            )
            differing += not is_same
    return {"tensors": count, "differing": differing}


def same_files(ours: Path, *others: Path) -> dict[str, int]:
    """Count the files of other runs that ours left with other bytes."""
    digests = _digests(ours)
    alone = {name: digest for folder in others for name, digest in _digests(folder).items()}
    differing = sum(digests.get(name) != digest for name, digest in alone.items())
    return {"files": len(alone), "differing": differing}


def _digests(folder: Path) -> dict[str, str]:
    """Digest the artifacts' files by their names below the recipe's folder; a manifest names its recipe."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "manifest.json":
            with path.open("rb") as stream:
                name = "/".join(path.relative_to(folder).parts[1:])
                found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found
