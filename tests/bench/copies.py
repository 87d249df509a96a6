"""How far the fast copy of a source is from it, for every family: below the limit, or not asked in its place.

python -m tests.bench.copies [FAMILY …]

A tiny model of each family and variant that GGUF has is converted to F16, and to BF16 where that is not near
enough, as `verify` does. Its odds in llama.cpp are compared with those of the source in Transformers.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import numpy as np

from convert import convert_recipe
from convert.errors import Failure
from convert.formats import recipe_for
from convert.pipeline.stage.judge import write_tokenizer
from tests import tiny
from tests.verify import conftest
from verify.judgment import KL_LIMIT
from verify.logprobs import compare_logits, cut, save_reference
from verify.quality import summarize
from verify.runtimes import RuntimeSettings, llama_cpp, transformers
from verify.source_copy import ALIKE, SAMPLE, TYPES

if TYPE_CHECKING:
    from verify.worker import Worker

WINDOW = 64


def distance(name: str, home: Path) -> tuple[float | None, str]:
    """Return the divergence of the copy that would be asked, or of none, and why."""
    source = tiny.make(home / "source", tiny.Recipe(name, {"eos_token_id": tiny.VOCAB_SIZE - 1}))
    conftest.write_tokenizer(source)
    options = {"tokenizer": str(write_tokenizer(source, home / "tokenizer"))}
    settings = RuntimeSettings(context=2 * WINDOW, threads=1, options=options)
    # A runtime answers as a worker with it does; here both are in one process.
    opened = cast("Worker", transformers.open_runtime(str(source), settings))
    ids = [int(token) for token in np.random.default_rng(0).integers(3, 500, SAMPLE * WINDOW)]
    sample = save_reference(opened, cut(ids, WINDOW), home / "logits")
    said: list[str] = []
    for quant in TYPES:
        recipe = recipe_for(str(source), f"gguf:{quant}")
        try:
            convert_recipe(recipe, out=home, threads=1, offline=True)
            file = next((home / recipe.name / f"gguf-{quant}").glob("*.gguf"))
            copy = cast("Worker", llama_cpp.open_runtime(str(file), settings))
            if wrong := [each for each in ALIKE if getattr(copy.info, each) != getattr(opened.info, each)]:
                said.append(f"{quant}: its {wrong[0]} is not the source's")
                continue
            found = summarize(compare_logits(copy, sample), WINDOW).kl_mean
        except Failure as failure:
            said.append(f"{quant}: {failure.message}")
            continue
        if found < KL_LIMIT:
            return found, quant
        said.append(f"{quant}: {found:.1e} nats")
    return None, "; ".join(said)


def main() -> None:
    """Print each, and how many are near enough."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", metavar="FAMILY", default=tiny.rendered("gguf"))
    near: dict[str, float] = {}
    rest: list[str] = []
    failed: dict[str, str] = {}
    transformers.preload()
    for name in parser.parse_args().families:
        with TemporaryDirectory() as home:
            try:
                found, why = distance(name, Path(home))
            except Failure as failure:
                failed[name] = failure.message
                continue
        print(f"{name}: {why if found is None else f'{found:.1e} nats ({why})'}", flush=True)
        if found is None:
            rest.append(name)
        else:
            near[name] = found
    print(f"{len(near)} within {KL_LIMIT:g} nats, at most {max(near.values(), default=0):.1e}")
    print(f"{len(rest)} would be answered for by the source itself: {', '.join(rest) or 'none'}")
    for name, why in failed.items():
        print(f"not compared: {name}: {why}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
