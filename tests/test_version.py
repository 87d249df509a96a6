"""The version: what runs, by git's word in a checkout and by the package's elsewhere."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from convert import version as module
from convert.version import changes, checkout_version, version

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
NAMED = ("-c", "user.name=a", "-c", "user.email=a@b.c")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *NAMED, *arguments],
        env={**os.environ, **NOBODY},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "convert").mkdir(parents=True)
    (folder / "verify").mkdir()
    (folder / "convert" / "code.py").write_text("")
    (folder / "README.md").write_text("")
    (folder / "pyproject.toml").write_text('[tool.setuptools_scm]\nfallback_version = "0.7.0"\n')
    git(tmp_path, "init", "--quiet", "checkout")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


def commit_of(checkout: Path) -> str:
    return git(checkout, "rev-parse", "--short=9", "HEAD")


def test_without_a_tag_it_is_the_fallback_and_the_commit(checkout: Path, tmp_path: Path) -> None:
    assert checkout_version(checkout) == f"0.7.0+g{commit_of(checkout)}"
    git(tmp_path, "clone", "--quiet", "--depth", "1", checkout.as_uri(), "shallow")
    assert checkout_version(tmp_path / "shallow") == checkout_version(checkout)


def test_a_tag_names_its_commit_alone(checkout: Path) -> None:
    git(checkout, "tag", "v0.8.0")
    git(checkout, "tag", "measured-here")
    assert checkout_version(checkout) == "0.8.0"
    git(checkout, "commit", "--quiet", "--allow-empty", "--message", "two")
    assert checkout_version(checkout) == f"0.8.0+g{commit_of(checkout)}"


@pytest.mark.parametrize("changed", ["convert/code.py", "convert/new.py", "verify/new.py"])
def test_changed_code_says_so(checkout: Path, changed: str) -> None:
    (checkout / "README.md").write_text("This changes nothing that runs.")
    before = checkout_version(checkout)
    assert "dirty" not in before
    (checkout / changed).write_text("print()\n")
    assert checkout_version(checkout) == f"{before}.dirty"
    git(checkout, "tag", "v0.8.0")
    assert checkout_version(checkout) == "0.8.0+dirty"


def test_changes_to_deciding_code_have_a_digest_of_their_own(checkout: Path) -> None:
    code = checkout / "convert" / "writer" / "code.py"
    code.parent.mkdir()
    (checkout / "convert" / "code.py").write_text("print('decides no bytes')\n")
    assert changes(checkout) is None
    code.write_text("1\n")
    untracked = changes(checkout)
    git(checkout, "add", ".")
    assert changes(checkout) == untracked
    code.write_text("2\n")
    assert changes(checkout) not in (None, untracked)
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "--message", "two")
    assert changes(checkout) is None
    code.unlink()
    assert changes(checkout) is not None


def test_another_repository_s_environment_is_not_asked(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = checkout_version(checkout)
    git(tmp_path, "init", "--quiet", "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert checkout_version(checkout) == expected


def test_where_git_does_not_answer_the_commit_is_unknown(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert checkout_version(checkout) == "0.7.0+unknown"


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ("0.8.0", "0.8.0"),
        ("0.7.0+g0123456ab", "0.7.0+g0123456ab"),
        ("0.7.0+g0123456ab.d20261125", "0.7.0+g0123456ab.dirty"),
        ("0.8.0+d20261125", "0.8.0+dirty"),
    ],
)
def test_an_installed_package_says_what_it_was_built_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: str, said: str
) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)  # site-packages
    monkeypatch.setattr(module, "installed", lambda _: recorded)
    version.cache_clear()
    assert version() == said
    version.cache_clear()


def test_this_checkout_is_not_taken_for_what_was_installed() -> None:
    if not (module.ROOT / ".git").exists():
        pytest.skip("not a checkout")
    version.cache_clear()
    commit, tags = git(module.ROOT, "rev-parse", "--short=9", "HEAD"), git(module.ROOT, "tag", "--points-at")
    assert tags or f"+g{commit}" in version()
