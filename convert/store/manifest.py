"""manifest.json, the record of what an artifact was made from and holds; and the key of a build."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    ValidationError,
    field_validator,
)

from convert.deviation import Deviation
from convert.errors import Failure
from convert.store.fault import explained
from convert.strict_json import parse

SCHEMA = 2  # 1, of version 0.1.0, had no `model`, and another spelling of `license`
MANIFEST_NAME = "manifest.json"
# Goes before the names of an adapter's files, where they are listed together with the source's.
ADAPTER_FOLDER = "adapter/"

# Far above any real one: 10,000 tensors make about 1 MB.
LARGEST_BYTES = 64 << 20


class MissingManifest(Failure):
    """A folder without a manifest: no artifact was completed there."""


class DamagedManifest(Failure):
    """A manifest that cannot be trusted."""


class NewerManifest(Failure):
    """A manifest of a later schema, which may well be sound."""


def _relative(path: str) -> str:
    parts = path.split("/")
    if any(part in {"", ".", ".."} for part in parts) or any(mark in path for mark in "\\\0"):
        raise ValueError("must be a relative path with forward slashes that stays inside its folder")
    return path


RelativePath = Annotated[str, AfterValidator(_relative)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
SizeBytes = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Record):
    """One file, by its path relative to the source's or the artifact's folder."""

    path: RelativePath
    size_bytes: SizeBytes
    sha256: Sha256


def _by_path(files: tuple[FileEntry, ...]) -> tuple[FileEntry, ...]:
    paths = [entry.path for entry in files]
    if len(set(paths)) != len(paths):
        raise ValueError("names a file twice")
    return tuple(sorted(files, key=lambda entry: entry.path))


Files = Annotated[tuple[FileEntry, ...], AfterValidator(_by_path)]


class SourceRecord(_Record):
    """The source: a Hub repo at a commit, or a local folder, of which only the digests are recorded."""

    repo: str | None
    commit: str | None
    files: Files


class AdapterRecord(SourceRecord):
    """The LoRA adapter that was merged into the source, and what its own files say of it."""

    base: str | None  # the repo of the model that it was trained on
    license: str | None


class TokenRecord(_Record):
    """One token of the vocabulary."""

    id: Annotated[int, Field(ge=0)]
    text: str


class ModelRecord(_Record):
    """The facts about the model that those who run an artifact need, whatever its format."""

    family: str  # the canonical model_type
    parameter_count: Annotated[int, Field(ge=0)]
    context_length: Annotated[int, Field(ge=0)]
    vocab_size: Annotated[int, Field(ge=0)]
    bos: TokenRecord | None
    adds_bos: bool  # whether the tokenizer begins every text with it
    ends: tuple[TokenRecord, ...]  # the tokens that end an answer, the end-of-sequence token first
    chat_template_sha256: Sha256 | None
    sampling: dict[str, int | float]  # temperature, top_p, top_k, min_p, where the source advises them


class Manifest(_Record):
    """An artifact's whole provenance; `files` is filled in by `Staging.commit`."""

    schema_version: Annotated[int, Field(alias="schema")] = SCHEMA
    key: Sha256
    recipe: str
    source: SourceRecord
    adapter: AdapterRecord | None = None
    target: str
    format: str
    model: ModelRecord | None = None  # none in schema 1
    format_revision: int | None = None  # none in schema 1
    options: dict[str, JsonValue]
    tools: dict[str, str]
    files: Files = ()
    tensors: dict[str, str]
    deviations: tuple[Deviation, ...] = ()
    license: Annotated[str | None, Field(validation_alias=AliasChoices("license", "licence"))]
    chat_template_sha256: Sha256 | None

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    @field_validator("deviations")
    @classmethod
    def _sorted(cls, deviations: tuple[Deviation, ...]) -> tuple[Deviation, ...]:
        return tuple(sorted(deviations))

    def with_files(self, files: tuple[FileEntry, ...]) -> Self:
        """Return the same manifest with these files."""
        return self.model_copy(update={"files": _by_path(files)})

    @property
    def known_by(self) -> str | None:
        """Name the repo that the model is known by: with an adapter, the adapter's."""
        return (self.adapter or self.source).repo

    @property
    def read_files(self) -> dict[str, str]:
        """Map every file that was read, of the source and of its adapter, to its digest."""
        added = self.adapter.files if self.adapter else ()
        return {
            **{entry.path: entry.sha256 for entry in self.source.files},
            **{f"{ADAPTER_FOLDER}{entry.path}": entry.sha256 for entry in added},
        }

    @property
    def size_bytes(self) -> int:
        """Add up the sizes of the shipped files, without the manifest itself."""
        return sum(entry.size_bytes for entry in self.files)

    def to_bytes(self) -> bytes:
        """Return the manifest as it is on disk: the same bytes for the same content."""
        content = self.model_dump(mode="json", by_alias=True)
        if self.adapter is None:  # as before this record was added
            del content["adapter"]
        text = json.dumps(content, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        return f"{text}\n".encode()


def artifact_key(
    *,
    source_digests: Mapping[str, str],
    target: str,
    options: Mapping[str, JsonValue],
    format_revision: int,
    tools: Mapping[str, str],
    also: Mapping[str, JsonValue] | None = None,
) -> str:
    """Digest all that determines an artifact's bytes.

    The source's commit and modelwright's version are left out: one that changes none of the files read, or
    of the bytes written, is no reason to build again. A format whose bytes change raises its revision.
    Whatever else reaches the bytes (the repo's name in the metadata, the calibration) goes into `also`.
    """
    determinants = {
        "source": dict(source_digests),
        "target": target,
        "options": dict(options),
        "format_revision": format_revision,
        "tools": dict(tools),
        "also": dict(also or {}),
    }
    text = json.dumps(determinants, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of the artifact in `folder`; a Failure where it is missing, damaged or newer."""
    path = folder / MANIFEST_NAME
    return parse_manifest(_read(path), path)


def parse_manifest(data: bytes, path: Path | str) -> Manifest:
    """Read a manifest; a Failure that names its place where it is damaged or newer."""
    try:
        content = parse(data, "it", "")
    except Failure as failure:
        raise _damaged(path, failure.message) from failure
    schema = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise _damaged(path, f"names an unknown schema ({schema!r})")
    if schema > SCHEMA:
        raise NewerManifest(
            f"{path}: schema {schema} is newer than this version knows ({SCHEMA})", "upgrade modelwright"
        )
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _damaged(path, f"{where}: {first['msg']}") from error
    if not manifest.files:
        raise _damaged(path, "names no files")
    return manifest


def _read(path: Path) -> bytes:
    with explained(path):
        try:
            # A link or a pipe by that name is no manifest: do not follow or wait.
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            raise MissingManifest(
                f"{path.parent}: no {MANIFEST_NAME} there, so no artifact",
                "`modelwright list` shows the artifacts",
            ) from None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise _damaged(path, "is a symbolic link") from None
        try:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode):
                raise _damaged(path, "is not a regular file")
            if about.st_size > LARGEST_BYTES:
                raise _damaged(path, f"has {about.st_size} bytes, which no manifest has")
            with os.fdopen(descriptor, "rb", closefd=False) as stream:
                return stream.read()
        finally:
            os.close(descriptor)


def _damaged(path: Path | str, what: str) -> DamagedManifest:
    line = " ".join(what.split())
    return DamagedManifest(
        f"{path}: {line}", "convert the recipe again; `modelwright clean` removes damaged ones"
    )


def inside(folder: Path, path: RelativePath) -> Path:
    """Return a manifest's path below `folder`."""
    return folder.joinpath(*PurePosixPath(path).parts)
