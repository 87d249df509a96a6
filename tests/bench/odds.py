"""Memory and disk that odds over many windows take at large vocabularies: of all processes together.

python -m tests.bench.odds [--vocab 151936 250000] [--tokens 20000]

A model of one small layer with a large vocabulary is converted to Q8_0 and compared with its source over as
many windows as asked: what matters is the width of a row of logits, and that there are several files' worth
of windows. It exits 1 where the peak of the memory passes 2 GiB or that of the disk 4 GiB.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from convert import convert_recipe
from convert.formats import recipe_for
from convert.pipeline.stage.judge import write_tokenizer
from tests.bench.checkpoint import ROOT, Shape, make_checkpoint
from tests.bench.harness import GLANCE_S, measure
from verify.baseline import Source
from verify.task import Plan, Subject
from verify.texts import text_of
from verify.workflow import verify_artifacts

MEMORY_BYTES = 2 << 30
DISK_BYTES = 4 << 30
VOCABULARIES = (151_936, 250_000)


class DiskWatch(threading.Thread):
    """Looks at how much a folder holds, again and again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self._folder = folder
        self._over = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        """Keep the highest sum."""
        while not self._over.wait(GLANCE_S):
            self.peak_bytes = max(self.peak_bytes, sum(map(_size, self._folder.rglob("*"))))

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self.join()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # it was removed meanwhile
        return 0


def build(home: Path, vocab: int) -> None:
    """Make the model and its artifact."""
    make_checkpoint(home / "model", Shape(layers=1, hidden=64, heads=2, mlp=128, vocab=vocab))
    convert_recipe(recipe_for(str(home / "model"), "gguf:Q8_0"), out=home / "out", offline=True)


def compare(home: Path, tokens: int) -> None:
    """Compare the artifact's odds with the source's, and nothing else."""
    model, artifact = home / "model", next((home / "out").glob("*/gguf-Q8_0"))
    size_bytes = sum(each.stat().st_size for each in model.iterdir())
    with TemporaryDirectory() as folder:
        source = Source(model, write_tokenizer(model, Path(folder, "tokenizer")), None, None, "0", size_bytes)
        text = text_of("long", tokens)
        plan = Plan((), text, "long", tokens=tokens, measures="quality", cache=home / "cache")
        (found,) = verify_artifacts([Subject("gguf-Q8_0", artifact)], source, plan).artifacts
    if found.quality is None:
        sys.exit(f"nothing was measured: {found.failures}")
    print(f"{found.quality.positions} positions, KL {found.quality.kl_mean:.2e}")


def main() -> None:
    """Measure each vocabulary from outside, and hold the peaks to their limits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocab", type=int, nargs="+", default=VOCABULARIES)
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument(
        "--work", type=Path, default=ROOT / "bench" / "odds", help="a folder for models and logits"
    )
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)  # what is measured: one comparison
    asked = parser.parse_args()
    if asked.only:
        compare(asked.only, asked.tokens)
        return
    is_over = False
    for vocab in asked.vocab:
        home = asked.work.resolve() / str(vocab)
        build(home, vocab)
        disk, began_s = DiskWatch(home / "cache"), time.monotonic()
        disk.start()
        command = (sys.executable, "-m", "tests.bench.odds", "--only", str(home))
        cost = measure((*command, "--tokens", str(asked.tokens)), {"PYTHONPATH": str(ROOT)})
        disk.stop()
        is_over |= cost.peak_rss_bytes > MEMORY_BYTES or disk.peak_bytes > DISK_BYTES
        print(
            f"{vocab} tokens in the vocabulary, {asked.tokens} read: {cost.peak_rss_bytes / 2**30:.2f} GiB "
            f"resident at most, {cost.peak_anon_bytes / 2**30:.2f} anonymous, {disk.peak_bytes / 2**30:.2f} "
            f"on disk; {time.monotonic() - began_s:.0f} s",
            flush=True,
        )
    sys.exit(is_over)


if __name__ == "__main__":
    main()
