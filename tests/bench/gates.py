"""How far artifacts are from their source on one text: `python -m tests.bench.gates SOURCE ARTIFACT…`.

It is what the gates of `verify` ask about logprobs, without the scenarios: minutes in place of an hour.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convert.store import read_manifest
from verify.logprobs import log_probabilities
from verify.runtimes import RuntimeSettings, choose_runtime, find_runtime

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEXT = Path(__file__).parents[2] / "docs" / "design.md"
TOKENS = 512


def rows(runtime: str, folder: Path, ids: list[int] | None) -> tuple[list[int], NDArray[np.float32]]:
    """Read the text, or tokens of it, and return the logprobs after each."""
    module = find_runtime(runtime)
    module.preload()
    opened = module.open_runtime(str(folder), RuntimeSettings(context=2 * TOKENS))
    if ids is None:
        ids = opened.tokenize(TEXT.read_text("utf-8"), special=False, add_bos=False)[:TOKENS]
    return ids, np.concatenate([log_probabilities(part) for part in opened.logits(ids)])


def main() -> None:
    """Print a line for each artifact."""
    source, *artifacts = map(Path, sys.argv[1:])
    ids, wanted = rows("transformers", source, None)
    after = np.arange(len(ids) - 1), np.array(ids[1:])
    print("| artifact | mean KL | top-1 | perplexity |", "|---|--:|--:|--:|", sep="\n", flush=True)
    for folder in artifacts:
        runtime, _ = choose_runtime(folder, read_manifest(folder).format, None)
        _, found = rows(runtime, folder, ids)
        found = found[:, : wanted.shape[1]]
        share = np.exp(wanted.astype(np.float64))
        divergence = float((share * (wanted - found)).sum(axis=1).mean())
        same = float((wanted.argmax(axis=1) == found.argmax(axis=1)).mean())
        ratio = float(np.exp((wanted[after] - found[after]).mean()))
        print(f"| {folder.name} | {divergence:.4f} | {same:.3f} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
