"""Check that a folder holds whole artifacts of a key's owner, and no file that nobody signed."""

import hashlib
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ValidationError

from convert.errors import Failure
from convert.progress import Progress, Silent
from convert.publish.provenance.download import Download, open_download
from convert.publish.provenance.envelope import MalformedError, Sealed, unseal
from convert.publish.provenance.key import KEY_VARIABLE, PublicKey, read_public
from convert.publish.provenance.statement import (
    BOM_NAME,
    PROVENANCE_NAME,
    PROVENANCE_TYPE,
    RELEASE_NAME,
    RELEASE_TYPE,
)
from convert.store import MANIFEST_NAME, Manifest
from convert.store.digest import digest_files
from convert.store.fault import explained
from verify.report import NAME as REPORT_NAME

_TAMPERED = "do not use it; download it again, and if that does not help, tell its publisher"


@dataclass(frozen=True)
class Verified:
    """What a key's owner signed, and is there unchanged."""

    path: Path
    key_id: str
    targets: tuple[str, ...]
    files: int
    size_bytes: int
    absent: tuple[str, ...]  # files of the release that are not here: of artifacts that were not fetched
    by_tools: tuple[str, ...]  # unsigned files of the Hub's own tools and the like


@dataclass(frozen=True)
class _Statement:
    """A statement of the key's owner, and its path in the repo."""

    name: str
    subjects: dict[str, str]
    predicate: dict[str, Any]


def examine(
    folder: Path, key: Path | None, *, threads: int | None = None, progress: Progress | None = None
) -> Verified:
    """Check each signature with the key, and each file with what was signed; a Failure says what is wrong."""
    download = open_download(folder)
    sealed: dict[str, Sealed] = {}
    for name in _statement_names(download):
        with _intact(download.where(name)):
            sealed[name] = unseal(download.read(name))
    public = _trusted(folder, sealed, key)
    statements = [_opened(download, name, each, public) for name, each in sealed.items()]
    provenances = [each for each in statements if each.name != RELEASE_NAME]
    manifests = [_agreeing(download, each) for each in provenances]
    subjects = _merged(folder, statements)
    for name in sorted({name for each in provenances for name in each.subjects} - set(download.names)):
        raise Failure(f"{download.where(name)}: signed, but not there", "download the artifact whole")
    _require_signed(download, subjects.keys() | sealed.keys())
    with explained(folder):
        here = {
            name: download.where(name).resolve(strict=True) for name in download.names if name in subjects
        }
        size_bytes = sum(path.stat().st_size for path in here.values())
    with (progress or Silent()).stage("digest", size_bytes) as advance:
        found = digest_files(here.values(), threads=threads, progress=advance)
    for name, path in here.items():
        if found[path].sha256 != subjects[name]:
            raise Failure(f"{download.where(name)}: not the file that was signed", _TAMPERED)
    return Verified(
        path=folder,
        key_id=public.key_id,
        targets=tuple(sorted(manifest.target for manifest in manifests)),
        files=len(here),
        size_bytes=size_bytes,
        absent=tuple(sorted(set(subjects) - set(here))),
        by_tools=download.by_tools,
    )


def _statement_names(download: Download) -> list[str]:
    provenances = [name for name in download.names if name.rpartition("/")[2] == PROVENANCE_NAME]
    if not provenances:
        raise Failure(
            f"{download.folder}: holds no {PROVENANCE_NAME}, so its origin is unknown",
            "`modelwright publish` writes one; of a download, name the topmost folder",
        )
    return [*provenances, *(name for name in download.names if name == RELEASE_NAME)]


@contextmanager
def _intact(path: Path) -> Iterator[None]:
    try:
        yield
    except MalformedError as error:
        raise Failure(f"{path}: {error}", _TAMPERED) from None


def _trusted(folder: Path, sealed: dict[str, Sealed], key: Path | None) -> PublicKey:
    """Read the key that a person trusts; a signature by anybody else means nothing."""
    unsigned = next((name for name, each in sealed.items() if each.signature is None), None)
    if unsigned:
        raise Failure(
            f"{folder / unsigned}: not signed, so its origin cannot be checked",
            f"its publisher signs with {KEY_VARIABLE}; --verify compares files with their manifest alone",
        )
    if key is None:
        ids = ", ".join(sorted({str(each.key_id) for each in sealed.values()}))
        raise Failure(
            f"{folder}: signed by the key {ids}, which nothing says you trust",
            "get the publisher's public key from elsewhere, and name its file with --key",
        )
    return read_public(key)


def _opened(download: Download, name: str, sealed: Sealed, public: PublicKey) -> _Statement:
    path = download.where(name)
    if sealed.key_id != public.key_id:
        raise Failure(f"{path}: signed by the key {sealed.key_id}, and --key is {public.key_id}", _TAMPERED)
    if not sealed.is_signed_by(public):
        raise Failure(f"{path}: the signature is wrong", _TAMPERED)
    kind = RELEASE_TYPE if name == RELEASE_NAME else PROVENANCE_TYPE
    with _intact(path):
        match sealed.statement():
            case {"predicateType": str(found), "subject": list(given), "predicate": dict(predicate)} if (
                found == kind
            ):
                listed = _resources(predicate) if kind == RELEASE_TYPE else _subjects(given)
                return _Statement(name, listed, predicate)
    raise Failure(f"{path}: a statement of another kind than its name says", _TAMPERED)


def _subjects(given: list[Any]) -> dict[str, str]:
    """Return the sha256 of each path in the repo."""
    subjects: dict[str, str] = {}
    for each in given:
        match each:
            case {"name": str(name), "digest": {"sha256": str(sha256)}} if name not in subjects:
                subjects[name] = sha256
            case _:
                raise MalformedError("a subject of the statement is not a file, or is there twice")
    return subjects


def _resources(predicate: dict[str, Any]) -> dict[str, str]:
    """Return the sha256 of each path that a release lists."""
    match predicate:
        case {"resources": list(given)} if all(
            isinstance(each, dict) and each.get("algorithm") == "sha256" for each in given
        ):
            return _subjects(
                [{"name": each.get("name"), "digest": {"sha256": each.get("digest")}} for each in given]
            )
    raise MalformedError("it lists no files, or by another digest than SHA-256")


def _agreeing(download: Download, statement: _Statement) -> Manifest:
    """Read the manifest in a provenance's folder; both must describe the same build and files."""
    place = PurePosixPath(statement.name)
    name = str(place.with_name(MANIFEST_NAME))
    path = download.where(name)
    if name not in statement.subjects or name not in download.names:
        raise Failure(f"{path}: missing, or not signed", _TAMPERED)
    data = download.read(name)
    if hashlib.sha256(data).hexdigest() != statement.subjects[name]:
        raise Failure(f"{path}: not the file that was signed", _TAMPERED)
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError:
        raise Failure(f"{path}: not a manifest of this version", "upgrade modelwright") from None
    documents = {str(place.with_name(each)) for each in (MANIFEST_NAME, BOM_NAME, REPORT_NAME)}
    shipped = {each: sha256 for each, sha256 in statement.subjects.items() if each not in documents}
    said = {"recipe": manifest.recipe, "target": manifest.target, "options": manifest.options}
    definition = statement.predicate.get("buildDefinition")
    is_same_build = isinstance(definition, dict) and definition.get("externalParameters") == said
    if not is_same_build or not any(shipped == each for each in _laid_out(manifest, shipped)):
        raise Failure(f"{path}: describes other files or another build than its provenance", _TAMPERED)
    return manifest


def _laid_out(manifest: Manifest, shipped: Iterable[str]) -> Iterable[dict[str, str]]:
    """Give the manifest's files below each folder that the first of them may be in."""
    first = manifest.files[0].path if manifest.files else ""
    for name in shipped:
        if name.endswith(first):
            prefix = name.removesuffix(first)
            yield {f"{prefix}{entry.path}": entry.sha256 for entry in manifest.files}


def _merged(folder: Path, statements: Iterable[_Statement]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for statement in statements:
        for name, sha256 in statement.subjects.items():
            if merged.setdefault(name, sha256) != sha256:
                raise Failure(f"{folder / name}: signed twice, as different files", _TAMPERED)
    return merged


def _require_signed(download: Download, signed: Container[str]) -> None:
    """Refuse any other file: a runtime might load it."""
    for name in download.names:
        if name not in signed:
            hint = "move it away" if RELEASE_NAME in download.names else f"fetch {RELEASE_NAME} as well"
            raise Failure(f"{download.where(name)}: nobody signed this file", f"{hint}, or {_TAMPERED}")
