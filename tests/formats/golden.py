"""The bytes that each format makes of seeded tiny models: `python -m tests.formats.golden` records them.

`golden.json` has an entry for each format: its options as a recipe has them, its revision, and the digest of
every file. What depends on the processor is left out: GPTQModel's own work, of which the checkpoint that it
reads is recorded instead, and importance matrices that are learned.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from convert.formats import find_format, format_names
from convert.formats.gptq import gptqmodel
from convert.quantizer import Job, Outcome
from convert.store import MANIFEST_NAME
from tests import tiny
from tests.hf import describing

RECORD = Path(__file__).with_name("golden.json")
FAMILIES = ("gpt2", "qwen", "qwen3", "llama", "phi3", "gemma", "qwen3_moe", "deepseek_v3")
TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all. " * 20
CALIBRATION = "calibration: {text: text.txt, samples: 2, length: 64}"
COMMAND = "python -m tests.formats.golden"


def read() -> dict[str, dict[str, Any]]:
    """Read what was recorded."""
    content: dict[str, dict[str, Any]] = json.loads(RECORD.read_text("utf-8"))
    return content


def build(name: str, families: dict[str, dict[str, Any]], place: Path) -> dict[str, str]:
    """Make a format's artifacts of each family; give the digest of every file."""
    found: dict[str, str] = {}
    for family, options in families.items():
        folder = place / family
        source = describing.make(folder / "source", tiny.Recipe(family, {layers_key(family): 2}, shards=2))
        (folder / "text.txt").write_text(TEXT, "utf-8")
        with mock.patch.object(gptqmodel, "quantize", _copy):
            artifacts = describing.convert_to(folder, source, f"{name}: {json.dumps(options)}\n{CALIBRATION}")
        for path in sorted(artifacts.rglob("*")):
            if path.is_file() and path.name != MANIFEST_NAME:
                key = f"{family}/{path.relative_to(artifacts).as_posix()}"
                found[key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def layers_key(family: str) -> str:
    """Name the config's count of layers."""
    return "n_layer" if "n_layer" in tiny.CONFIGS[family] else "num_hidden_layers"


def _copy(job: Job, **_: Any) -> Outcome:
    """Hand back the checkpoint that GPTQModel would read."""
    for path in job.source.iterdir():
        shutil.copyfile(path, job.out / path.name)
    return Outcome((), "cpu", {}, 0)


def record() -> None:
    """Write the digests of today, with each format's options as they are in the file."""
    recorded = read()
    for name in format_names():
        entry = recorded.setdefault(name, {})
        options = entry.setdefault("options", {family: {} for family in FAMILIES})
        with tempfile.TemporaryDirectory() as place:
            files = build(name, options, Path(place))
        recorded[name] = {"revision": find_format(name).REVISION, "options": options, "files": files}
    RECORD.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    record()
