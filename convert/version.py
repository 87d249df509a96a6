"""The version of modelwright that is running."""

import hashlib
import os
import re
import subprocess
from functools import cache
from importlib.metadata import version as installed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_COMMIT_DIGITS = 9  # as many as setuptools-scm takes
# The code that decides an artifact's bytes.
_DECIDING = ("calibration", "checkpoint", "formats", "model", "quantizer", "tokenizer", "writer")
# setuptools-scm marks a build from changed files by its date, which must not reach a manifest.
_BUILD_DATE = re.compile(r"([.+])d\d{8}$")


@cache
def version() -> str:
    """Return the version: of a git checkout the last tag, the commit, and whether the code was changed.

    The metadata of an editable install is what was checked out when it was installed, so a checkout asks git.
    """
    if (ROOT / ".git").exists() and (ROOT / "pyproject.toml").is_file():
        return checkout_version(ROOT)
    return _BUILD_DATE.sub(r"\1dirty", installed("modelwright"))


@cache
def code_digest() -> str:
    """Digest the code of `convert`, for what is kept between runs and must not outlive a change of it."""
    sha256 = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        sha256.update(path.read_bytes())
    return sha256.hexdigest()


@cache
def changed_code() -> str | None:
    """Digest the uncommitted changes to the code that decides an artifact's bytes; None without any.

    A format's revision speaks for commits, which the tests hold to it; changes speak for themselves.
    """
    return changes(ROOT) if (ROOT / ".git").exists() else None


def changes(root: Path) -> str | None:
    """Digest what differs from the commit in a checkout's deciding code."""
    folders = [f"convert/{name}" for name in _DECIDING]
    changed = _git(root, "diff", "--name-only", "--no-renames", "-z", "HEAD", "--", *folders) or ""
    added = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "--", *folders) or ""
    names = sorted({name for name in (changed + "\0" + added).split("\0") if name})
    contents = [(name, (root / name).read_bytes() if (root / name).is_file() else None) for name in names]
    return hashlib.sha256(repr(contents).encode()).hexdigest() if contents else None


def checkout_version(root: Path) -> str:
    """Return the version that the files of a git checkout have now."""
    commit = _git(root, "rev-parse", f"--short={_COMMIT_DIGITS}", "HEAD")
    if commit is None:  # no git, no commit, or another user's checkout
        return f"{_fallback(root)}+unknown"
    tag = _git(root, "describe", "--tags", "--abbrev=0", "--match", "v[0-9]*")
    is_tagged = tag is not None and _git(root, "rev-parse", f"{tag}^{{commit}}") == _git(
        root, "rev-parse", "HEAD"
    )
    is_changed = _git(root, "status", "--porcelain", "--", "convert", "verify") != ""
    local = [*([] if is_tagged else [f"g{commit}"]), *(["dirty"] if is_changed else [])]
    return "+".join(filter(None, [tag.removeprefix("v") if tag else _fallback(root), ".".join(local)]))


def _git(root: Path, *arguments: str) -> str | None:
    """Ask git about exactly this checkout, without a lock; None where it cannot tell."""
    # Neither GIT_DIR and the like, nor a token: no process gets one that need not have it.
    environment = {key: os.environ[key] for key in ("HOME", "PATH") if key in os.environ}
    try:
        answer = subprocess.run(  # noqa: S603
            ["git", "-C", str(root), *arguments],  # noqa: S607
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _fallback(root: Path) -> str:
    import tomllib  # noqa: PLC0415 - for a checkout without tags

    settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    return str(settings["tool"]["setuptools_scm"]["fallback_version"])
