"""Make a release of what is in changes/: `python -m tests.docs.release VERSION`; --notes prints one."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNRELEASED = "## Unreleased\n"
_FALLBACK = re.compile(r'^fallback_version = "([0-9.]+)"$', re.MULTILINE)
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def fragments(root: Path) -> list[Path]:
    """List the changes, in the order of their names."""
    return sorted(path for path in (root / "changes").glob("*.md") if path.name != "README.md")


def release(root: Path, version: str, date: str) -> None:
    """Move the changes into the changelog under a version, and raise the version of archives."""
    project, changelog = root / "pyproject.toml", root / "CHANGELOG.md"
    text, log = project.read_text("utf-8"), changelog.read_text("utf-8")
    found = _FALLBACK.search(text)
    if not _VERSION.fullmatch(version) or found is None or _order(version) <= _order(found[1]):
        sys.exit(f"error: {version!r} is no version after {found[1] if found else 'none'}")
    changed = fragments(root)
    new = "".join(path.read_text("utf-8").strip() + "\n" for path in changed)
    if UNRELEASED not in log or not (new or notes(log, "Unreleased")):
        sys.exit("error: nothing changed: changes/ is empty")
    begun = f"{UNRELEASED}\n## {version} ({date})\n{new}"
    changelog.write_text(log.replace(UNRELEASED, begun, 1), "utf-8")
    project.write_text(_FALLBACK.sub(f'fallback_version = "{version}"', text), "utf-8")
    for path in changed:
        path.unlink()


def notes(log: str, version: str) -> str:
    """Cut out what the changelog says of a version."""
    found = re.search(rf"^## {re.escape(version)}\b[^\n]*\n(.*?)(?=^## |\Z)", log, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def _order(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("error: no VERSION is given, e.g. make release VERSION=0.2.0")
    if sys.argv[1] == "--notes":
        said = notes((ROOT / "CHANGELOG.md").read_text("utf-8"), sys.argv[2].removeprefix("v"))
        print(said or sys.exit(f"error: the changelog does not know {sys.argv[2]}"))
    else:
        release(ROOT, sys.argv[1], datetime.now(UTC).date().isoformat())
        tag = f"v{sys.argv[1]}"
        print(f"next: git commit -am 'release: {tag}' && git tag {tag} && git push --follow-tags")
