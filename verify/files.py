"""An artifact's files, checked before any native code opens one of them."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from convert.errors import Failure
from convert.store import (
    MANIFEST_NAME,
    Flaw,
    Manifest,
    MissingManifest,
    NewerManifest,
    inspect_artifact,
    inspect_file,
    read_manifest,
)
from convert.store.fault import explained
from convert.store.model_file import SUFFIXES
from verify.gates import Check

VIEW = ".modelwright-view-"


@dataclass(frozen=True)
class Files:
    """An artifact's files, and the checks of them."""

    checks: tuple[Check, ...] = ()
    manifest: Manifest | None = field(default=None, repr=False)
    manifest_sha256: str | None = None
    size_bytes: int | None = None


def check_files(path: Path | str, *, is_hashed: bool = True) -> Files:
    """Compare files with the manifest, if there is one, and read the headers; a server has no files.

    Where they are not to be hashed, their sizes are compared alone.
    """
    if isinstance(path, str):
        return Files()
    with explained(path):
        if path.is_file():
            return Files((_headers([path]),), size_bytes=path.stat().st_size)
        try:
            manifest = read_manifest(path)
        except MissingManifest:
            found = [each for each in sorted(path.rglob("*")) if each.is_file()]
            return Files((_headers(found),), size_bytes=sum(each.stat().st_size for each in found))
        except NewerManifest:
            raise
        except Failure as failure:
            return Files((Check("digests", "damaged", "a manifest", passed=False, why=failure.message),))
        digest = hashlib.sha256((path / MANIFEST_NAME).read_bytes()).hexdigest()
        checks = [_digests(path, is_hashed=is_hashed)]
        if checks[0].passed:
            checks.append(_headers([path / entry.path for entry in manifest.files]))
        return Files(tuple(checks), manifest, digest, manifest.size_bytes)


def check_rebuilt(path: Path, manifest_sha256: str) -> Check | None:
    """Fail where the manifest is another by now: nobody can say which artifact was measured."""
    try:
        if hashlib.sha256((path / MANIFEST_NAME).read_bytes()).hexdigest() == manifest_sha256:
            return None
        why = "it was built again while it was verified; verify it again"
    except OSError as error:
        why = f"{MANIFEST_NAME} was readable before it was verified, and is not now: {error.strerror}"
    return Check("digests", "changed", 0, passed=False, why=why)


@contextmanager
def named_only(folder: Path, manifest: Manifest) -> Iterator[Path]:
    """Show the folder with no other files than its manifest names: what is judged is what may go out.

    Runtimes open whatever lies next to a model. Where something does, the view has hard links to the rest.
    """
    extra = [each for each in inspect_artifact(folder).differences if each.flaw is Flaw.EXTRA]
    if not extra:
        yield folder
        return
    with explained(folder.parent):
        remove_abandoned(folder.parent)
        view = Path(mkdtemp(prefix=f"{VIEW}{os.getpid()}-", dir=folder.parent))
        try:
            for path in (MANIFEST_NAME, *(entry.path for entry in manifest.files)):
                (view / path).parent.mkdir(parents=True, exist_ok=True)
                os.link(folder / path, view / path, follow_symlinks=False)
            yield view
        finally:
            rmtree(view, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the views that killed processes left."""
    for each in folder.glob(f"{VIEW}*"):
        number = each.name.removeprefix(VIEW).partition("-")[0]
        if number.isdigit() and not Path("/proc", number).exists():
            rmtree(each, ignore_errors=True)


def _digests(folder: Path, *, is_hashed: bool) -> Check:
    try:
        report = inspect_artifact(folder, verify=is_hashed)
    except Failure as failure:  # no permission, say, or a disk that fails: the other artifacts go on
        return Check("digests", None, 0, passed=False, why=f"{failure.message}; it is not opened")
    wrong = [each for each in report.differences if each.flaw is not Flaw.EXTRA]
    if wrong:
        why = f"{wrong[0].path}: {wrong[0].flaw}; it is not opened"
        return Check("digests", len(wrong), 0, passed=False, why=why)
    count = len(report.manifest.files)
    why = (
        f"{count} file{'s have' if count > 1 else ' has'} the manifest's {'SHA-256' if is_hashed else 'size'}"
    )
    return Check("digests", 0, 0, passed=True, why=why)


def _headers(paths: list[Path]) -> Check:
    """Check that the headers can be read: natives may crash on a damaged one."""
    files = [path for path in paths if path.suffix in SUFFIXES]
    for path in files:
        try:
            inspect_file(path)
        except Failure as failure:
            return Check(
                "header", path.name, "readable", passed=False, why=f"{failure.message}; it is not opened"
            )
    return Check("header", len(files), len(files), passed=True, why="every header can be read")
