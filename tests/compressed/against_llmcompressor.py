"""Compare tensors and config with what llmcompressor itself makes.

It wants another version of Transformers than this project, so it is installed apart and named:

    pip install --no-deps --target /tmp/llmcompressor llmcompressor loguru
    python -m tests.compressed.against_llmcompressor --path /tmp/llmcompressor llama qwen3_moe

Its `model_free_ptq` gives an NVFP4 scale each to gate and up of an expert, and to what latent attention
begins with; that one difference is expected.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressed_tensors.quantization import QuantizationConfig

from convert.formats.compressed_tensors.options import Scheme
from tests import tiny
from tests.compressed import library
from tests.hf.describing import convert_to, make

if TYPE_CHECKING:
    from collections.abc import Iterator

FAMILIES = ("llama", "qwen2", "qwen3_moe", "phi3", "gemma3_text", "deepseek_v3")
SCHEMES = ", ".join(Scheme)


def compare(family: str, place: Path, quantize: Any) -> Iterator[tuple[str, int, list[str], bool]]:
    """Yield each artifact with its number of tensors, those that differ, and whether config.json is equal."""
    source = make(place / "source", tiny.Recipe(family))
    for options in (f"scheme: [{SCHEMES}]", "scheme: [w4a16, w8a16], symmetric: false, group_size: 64"):
        folder = place / str(len(options))
        folder.mkdir()
        for own in sorted(convert_to(folder, source, f"compressed-tensors: {{{options}}}").iterdir()):
            section = _section(own)
            said = {
                name: each for name, each in section.items() if name not in ("version", "transform_config")
            }
            theirs = folder / f"theirs-{own.name}"
            wanted = {**said, "quantization_status": "initialized"}
            quantize(source, theirs, config=QuantizationConfig.model_validate(wanted), device="cpu")
            found, reference = library.read(own), library.read(theirs)
            differing = library.differing(found, reference)
            yield own.name, len(found), differing, section == _section(theirs)


def _section(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text("utf-8"))["quantization_config"]
    return found


def main() -> None:
    """Print a line an artifact."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", default=FAMILIES)
    parser.add_argument("--path", help="the folder that llmcompressor was installed into")
    asked = parser.parse_args()
    if asked.path:
        sys.path.append(asked.path)
    from llmcompressor.entrypoints.model_free import model_free_ptq  # noqa: PLC0415 - it is found by --path

    for family in asked.families:
        with tempfile.TemporaryDirectory() as place:
            for name, count, differing, is_same in compare(family, Path(place), model_free_ptq):
                what = f"{len(differing)} differ: {library.layers(differing)[:4]}" if differing else "equal"
                config = "equal" if is_same else "differs"
                print(f"{family:14} {name:28} {count:4} tensors {what}, config {config}")


if __name__ == "__main__":
    main()
