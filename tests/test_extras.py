"""What is imported is declared, and what is missing is named by the extra that brings it."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from convert.errors import Failure
from convert.extras import NEED_TORCH, PACKAGES, installed, missing

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
OWN = re.compile(r"modelwright\[([^\]]*)\]")


def distribution(requirement: str) -> str:
    """Cut the name out of a requirement, spelled as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=!~;]", requirement)[0]).lower()


def brought_by(extra: str) -> set[str]:
    """List the distributions that an extra brings, those of the extras within it too."""
    found: set[str] = set()
    for requirement in EXTRAS[extra]:
        if own := OWN.match(requirement):
            found |= set().union(*(brought_by(name.strip()) for name in own[1].split(",")))
        else:
            found.add(distribution(requirement))
    return found


BASE = {distribution(requirement) for requirement in PROJECT["dependencies"]}


@cache
def imports() -> dict[str, set[Path]]:
    """List the top-level modules of others that the code imports, and where."""
    found: dict[str, set[Path]] = {}
    for path in (file for package in ("convert", "verify") for file in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom) and node.level == 0
                else []
            )
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in ("convert", "verify"):
                    found.setdefault(top, set()).add(path.relative_to(ROOT))
    return found


# No code here imports these: a process of their own does, or ctypes opens their library.
IN_A_PROCESS = {"llama_cpp", "xllamacpp"}
owners_of = cache(metadata.packages_distributions)


def test_every_import_is_declared() -> None:
    for module, where in imports().items():
        owners = {distribution(name) for name in owners_of().get(module, ())}
        if owners & BASE:
            continue
        packages = [package for package in PACKAGES if package.module == module]
        assert packages, f"{module} is no dependency, and convert/extras.py names no extra: {where}"
        if owners:  # Ray is installed for its own tests alone
            assert distribution(packages[0].distribution) in owners


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.module)
def test_every_extra_brings_what_the_table_says(package: Any) -> None:
    assert distribution(package.distribution) in brought_by(package.extra)
    assert distribution(package.distribution) not in BASE
    assert package.module in imports() or package.module in IN_A_PROCESS
    needs_torch = {extra for extra in EXTRAS if extra != "dev" and {"torch", "gptqmodel"} & brought_by(extra)}
    assert needs_torch == NEED_TORCH


@pytest.mark.parametrize("path", ["README.md", "Makefile", "CONTRIBUTING.md"])
def test_every_extra_that_is_written_about_exists(path: str) -> None:
    text = (ROOT / path).read_text("utf-8") if (ROOT / path).is_file() else ""
    named = re.findall(
        r"(?:pip install|--editable) '(?:modelwright|\.)\[([^\]]+)\]'|`'\.\[([^\]]+)\]'`", text
    )
    for extra in {name for pair in named for names in pair for name in names.split(",") if name}:
        assert extra in EXTRAS


def test_a_package_that_is_missing_is_a_line_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    for package in PACKAGES:
        with pytest.raises(Failure, match=f"^{package.distribution} is not installed$") as caught:
            installed(package.distribution)
        assert f"pip install 'modelwright[{package.extra}]'" in caught.value.hint
        by_module = missing(f"{package.module}.part")
        assert by_module is not None
        assert (by_module.message, by_module.hint) == (caught.value.message, caught.value.hint)
    assert missing("a_bug") is None


# A child process in which none of the extras' packages can be found, by their modules or their metadata.
WITHOUT = """
import json, sys
from importlib import metadata
blocked, own = json.loads(sys.argv.pop(1)), metadata.Distribution.from_name
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in blocked:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
def from_name(name):
    if name in blocked.values():
        raise metadata.PackageNotFoundError(name)
    return own(name)
metadata.Distribution.from_name = from_name
sys.meta_path.insert(0, Blocker())
from convert.cli import main
sys.exit(main())
"""
RECIPE = """model: {model}
targets: {{gguf: {{quants: [F16, Q8_0]}}, onnx: {{precision: int4}}, awq: {{}}, hf: {{}},
  gptq: {{engine: gptqmodel}}}}
calibration: {{packs: [searchqa], samples: 2}}
"""


def run(folder: Path, brought: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command with the base installation and these modules."""
    blocked = {each.module: each.distribution for each in PACKAGES if each.module not in brought}
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=ROOT / "recipes" / "models" / "tiny-qwen"), "utf-8")
    return subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps(blocked), *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("module", "target"),
    [(None, "hf"), (None, "gguf-F16"), ("llama_cpp", "gguf"), ("onnx", "onnx")],
)
def test_an_extra_alone_converts_what_it_promises(tmp_path: Path, module: str | None, target: str) -> None:
    done = run(tmp_path, {module} if module else set(), "convert", "recipe.yaml", "--only", target)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "artifacts" / "recipe").glob(f"{target}*/manifest.json"))


@pytest.mark.parametrize(
    ("command", "target", "distribution", "extra"),
    [
        ("plan", "gguf-Q8_0", "llama-cpp-python", "gguf"),
        ("convert", "gguf-Q8_0", "llama-cpp-python", "gguf"),
        ("convert", "onnx", "onnx", "onnx"),
        ("plan", "gptq", "GPTQModel", "gptq"),
        ("convert", "awq", "GPTQModel", "gptq"),
    ],
)
def test_without_it_a_line_names_the_extra(
    tmp_path: Path, command: str, target: str, distribution: str, extra: str
) -> None:
    # A slow machine shows progress otherwise.
    done = run(tmp_path, set(), "--quiet", command, "recipe.yaml", "--only", target)
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error == f"error: {distribution} is not installed"
    assert hint.startswith("hint:  ")
    assert hint.endswith(f"pip install 'modelwright[{extra}]'")


def test_without_any_a_machine_is_chosen_for_and_what_is_left_out_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, set(), "pick", "recipe.yaml", "--on", "laptop-8gb", "--context", "512")
    assert (done.returncode, bool(done.stdout)) == (0, True)
    assert "onnx is left out: onnx is not installed; pip install 'modelwright[onnx]'\n" in done.stderr


def test_without_any_the_rest_of_the_program_works(tmp_path: Path) -> None:
    assert run(tmp_path, set(), "convert", "recipe.yaml", "--only", "hf").returncode == 0
    for line in (
        ["plan", "recipe.yaml", "--only", "hf"],
        ["list"],
        ["inspect", "artifacts/recipe/hf"],
        ["--help"],
    ):
        done = run(tmp_path, set(), *line)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout
