"""The artifacts below a folder: built in a hidden one, renamed into place, found again by their key."""

import os
from pathlib import Path

from convert.errors import Failure
from convert.store import inventory, part, staging
from convert.store.digest import Begun, Progress
from convert.store.fault import explained
from convert.store.inventory import (
    REBUILT,
    ArtifactReport,
    Flaw,
    State,
    clean,
    inspect_artifact,
    list_artifacts,
)
from convert.store.manifest import (
    ADAPTER_FOLDER,
    MANIFEST_NAME,
    AdapterRecord,
    DamagedManifest,
    FileEntry,
    Manifest,
    MissingManifest,
    ModelRecord,
    NewerManifest,
    SourceRecord,
    TokenRecord,
    artifact_key,
    read_manifest,
)
from convert.store.model_file import FileReport, Tally, inspect_file
from convert.store.part import Parts
from convert.store.paths import Paths, Removed
from convert.store.remote import Remote
from convert.store.space import allocate, free_bytes, require_space
from convert.store.staging import Staging, seal
from convert.store.upload import Work

__all__ = [
    "ADAPTER_FOLDER",
    "MANIFEST_NAME",
    "REBUILT",
    "AdapterRecord",
    "ArtifactReport",
    "Begun",
    "DamagedManifest",
    "FileEntry",
    "FileReport",
    "Flaw",
    "Manifest",
    "MissingManifest",
    "ModelRecord",
    "NewerManifest",
    "Parts",
    "Remote",
    "Removed",
    "SourceRecord",
    "Staging",
    "State",
    "Store",
    "Tally",
    "TokenRecord",
    "Work",
    "allocate",
    "artifact_key",
    "clean",
    "free_bytes",
    "inspect",
    "inspect_artifact",
    "inspect_file",
    "list_artifacts",
    "read_manifest",
    "require_space",
    "seal",
]


def inspect(
    path: Path, *, verify: bool = False, threads: int | None = None, progress: Progress | None = None
) -> ArtifactReport | FileReport:
    """Report on an artifact, by its folder or its manifest, or on a bare model file."""
    with explained(path):
        is_file, exists = path.is_file(), path.exists()
    if not exists:
        raise Failure(f"{path}: no such file or folder", "`modelwright list` shows the artifacts")
    if is_file and path.name != MANIFEST_NAME:
        return inspect_file(path)
    folder = path.parent if path.name == MANIFEST_NAME else path
    return inspect_artifact(folder, verify=verify, threads=threads, progress=progress)


class Store(Paths):
    """The artifacts below one folder, as a build needs them."""

    stage = staging.stage
    parts = part.parts
    sweep = staging.sweep

    def holds(self, recipe: str, target: str) -> bool:
        """Say whether something with a manifest is where this artifact goes."""
        return os.path.lexists(self.folder(recipe, target) / MANIFEST_NAME)

    def current(self, recipe: str, target: str) -> Manifest | None:
        """Read the manifest of a finished artifact; None without one, a Failure where it is damaged."""
        try:
            return read_manifest(self.folder(recipe, target))
        except MissingManifest:
            return None

    def is_up_to_date(self, recipe: str, target: str, key: str) -> bool:
        """Say whether the artifact has this key and every file at its size; only its manifest is read."""
        try:
            manifest = self.current(recipe, target)
        except (DamagedManifest, NewerManifest):
            return False
        if manifest is None or manifest.key != key or manifest.target != target:
            return False
        return next(inventory.missing_files(self.folder(recipe, target), manifest), None) is None
