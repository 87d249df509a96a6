"""The wheel: everything that runs is in it, and it converts in a folder with nothing in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("convert", "verify", "recipes")
# The tests themselves get another home, and no network; pip brings setuptools.
_ENVIRONMENT = dict(os.environ)


def tracked(*folders: str) -> list[str]:
    """List the files of the checkout, those that are not committed yet among them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *folders],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what is here, built from a copy: an older build's leavings would go in too."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in [*tracked(*SHIPPED), "pyproject.toml", "README.md", "LICENSE"]:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, source],
        env={**_ENVIRONMENT, "SETUPTOOLS_SCM_PRETEND_VERSION": "9.9.9"},
        capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip
    if done.returncode and "No matching distribution found for setuptools" in done.stderr:
        pytest.skip("pip cannot bring setuptools")
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_has_every_file_and_no_other(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == set(tracked(*SHIPPED))
    assert wheel.stat().st_size < 20e6


@pytest.mark.slow
def test_a_fresh_installation_converts_anywhere(wheel: Path, tmp_path: Path) -> None:
    home, here = tmp_path / "venv", tmp_path / "empty"
    here.mkdir()
    venv.create(home, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    zipfile.ZipFile(wheel).extractall(site)
    # The packages that it needs are those of the tests; the checkout, which these find by a file, is not.
    shared = [each for each in sys.path if Path(each).name == "site-packages"]
    (site / "shared.pth").write_text("\n".join(shared) + "\n", "utf-8")

    def run(*words: str) -> str:
        script = "import sys; from convert.cli import main; sys.exit(main())"
        done = subprocess.run(
            [home / "bin" / "python", "-c", script, *words],
            cwd=here, env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("--version") == "modelwright 9.9.9\n"
    assert "tiny-gpt2" in run("list")
    assert "1 artifact built" in run("convert", "tiny", "--only", "gguf-Q8_0")
    assert (here / "artifacts" / "tiny" / "gguf-Q8_0" / "manifest.json").is_file()
    model = str(ROOT / "recipes" / "models" / "tiny-gpt2")
    assert "2 artifacts built" in run("convert", model, "--to", "gguf:Q4_K_M,onnx")
    assert sorted(each.name for each in here.iterdir()) == ["artifacts"]
