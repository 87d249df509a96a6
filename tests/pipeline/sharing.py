"""What several machines convert in parts: a recipe of a model in two files, and what comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.cli import app
from tests import tiny
from tests.hf import describing

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = """\
targets:
  gguf: {quants: [Q4_K_M, F16], split_max_size: 1M}
  onnx: {precision: int4}
  hf: {}
"""


def make_home(folder: Path, more: str = "") -> None:
    """Make the model, and m.yaml."""
    describing.make(folder / "source", tiny.Recipe("qwen3_moe", shards=2))
    (folder / "m.yaml").write_text(f"model: source\n{TARGETS}{more}", "utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def ran(*words: str) -> int:
    return app.run([*words, "--quiet", "--offline"])
