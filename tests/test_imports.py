"""Imports point one way, and `--help` brings nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A module may import from its own step and from those before it.
STEPS = (
    (
        "size",
        "digest",
        "version",
        "errors",
        "strict_json",
        "extras",
        "progress",
        "machine",
        "child",
        "device",
        "deviation",
    ),
    ("recipe", "model.card"),
    ("source",),
    ("checkpoint", "model.config"),
    ("model.feature", "model.tensor", "model.arrange", "model.kind", "model.splitting"),
    ("model.norm", "model.projector", "model.mixer", "model.mlp"),
    ("model.decoder", "model.pattern", "model.rotary", "model.family", "model.towers"),
    ("model.families", "model.binding"),
    ("model.further", "model.folding", "model.rotating"),
    ("tokenizer", "calibration"),
    ("model.source",),
    ("rounding",),
    ("writer.codecs",),
    ("writer.layout", "writer.share"),
    ("writer.sink",),
    ("writer.slice",),
    ("writer.engine", "writer.trial", "model.forward", "quantizer"),
    ("learning",),
    ("writer.measure", "writer.speed"),
    ("formats",),
    ("store",),
    ("publish", "pick"),
    ("pipeline",),
    ("fleet",),
    ("cli",),
)
ORDER = {name: number for number, step in enumerate(STEPS) for name in step}


def step_of(module: str) -> int | None:
    """Find a module's step, by its own name or its folder's: `model.config`, or `formats`."""
    parts = module.split(".")
    return ORDER.get(parts[0], ORDER.get(".".join(parts[:2])))


# What verification may know of the conversion: it must judge an artifact that came from elsewhere.
SEEN_BY_VERIFY = (
    "convert.checkpoint",  # of a quantized source, whose widening is compared with what others make of it
    "convert.errors",
    "convert.model.families",
    "convert.model.family",
    "convert.recipe",
    "convert.progress",
    "convert.child",
    "convert.size",
    "convert.strict_json",
    "convert.store",
    "convert.version",
)
# Publishing and choosing judge a report again by what the recipe asks for, and run nothing.
SEEN_BY_PUBLISH = (
    *("verify.report", "verify.gates", "verify.quality", "verify.sample", "verify.machine"),
    *("verify.revision", "verify.judgment", "verify.scenarios"),
)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", modules("convert"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = ".".join(path.relative_to(ROOT / "convert").with_suffix("").parts).removesuffix(".__init__")
    if own in ("model", "writer"):
        assert not imported(path), f"{path} only names its folder"
        return
    step = len(STEPS) if own == "__init__" else step_of(own)  # the public API
    assert step is not None, f"convert/{own} has no place in the order of imports"
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "verify":
            room = own.partition(".")[0]
            may = room in ("__init__", "cli", "pipeline") or (
                room in ("publish", "pick", "fleet") and name.startswith(SEEN_BY_PUBLISH)
            )
            assert may, f"{path} imports {name}"
        if parts[0] == "convert" and (theirs := step_of(".".join(parts[1:]))) is not None:
            assert theirs <= step, f"{path} imports {name}"


def loaded(path: Path, names: dict[str, Path]) -> set[str]:
    """List the modules that the top level of this one imports, those for types among them."""
    found: set[str] = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        for each in node.body if isinstance(node, ast.If) else [node]:
            if isinstance(each, ast.ImportFrom) and each.module:
                spelled = {f"{each.module}.{alias.name}" for alias in each.names}
                found |= {name if name in names else each.module for name in spelled}
            elif isinstance(each, ast.Import):
                found |= {alias.name for alias in each.names}
    return found & names.keys()


def test_no_import_goes_round_in_a_circle() -> None:
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ("convert", "verify")
        for path in modules(package)
    }
    graph = {name: loaded(path, names) - {name} for name, path in names.items()}
    assert len(tuple(TopologicalSorter(graph).static_order())) == len(names)


def test_verify_sees_little_of_convert() -> None:
    for path in modules("verify"):
        strangers = {
            name
            for name in imported(path)
            if name.startswith("convert.") and not name.startswith(SEEN_BY_VERIFY)
        }
        assert not strangers, f"{path} imports {strangers}"


def test_help_brings_nothing_heavy() -> None:
    heavy = (
        "torch",
        "transformers",
        "numpy",
        "pydantic",
        "huggingface_hub",
        "gguf",
        "llama_cpp",
        "tokenizers",
    )
    script = (
        "import sys; from convert.cli import main\n"
        "sys.argv = ['modelwright', 'convert', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print(sorted(set({heavy!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
