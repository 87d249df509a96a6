"""A small build, to be run in a process of its own and killed there; and what must hold afterwards.

As a script: `building.py ROOT MARK [--wait | --sweep | --sweep-without-exchange | --fill[-inodes] | --many]`.
"""

import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from convert.errors import Failure
from convert.store import (
    Manifest,
    SourceRecord,
    State,
    Store,
    artifact_key,
    inspect_artifact,
    list_artifacts,
    require_space,
    swap,
)

RECIPE, TARGET = "tiny", "gguf-Q8_0"
MODEL_BYTES = 96 << 10

# The marker that a trace of system calls is searched for: nothing is ever there.
MARKER = "/build-begins-here"


def key_of(mark: str) -> str:
    """The key of the build that leaves `mark` in every file."""
    return artifact_key(
        source_digests={"model.safetensors": mark},
        target=TARGET,
        options={},
        format_revision=1,
        tools={"modelwright": "0"},
    )


def manifest_of(mark: str, target: str = TARGET) -> Manifest:
    """A manifest that wants nothing but its files."""
    return Manifest(
        key=key_of(mark),
        recipe="model: models/tiny\n",
        source=SourceRecord(repo=None, commit=None, files=()),
        target=target,
        format="gguf",
        options={"mark": mark},
        tools={"modelwright": "0"},
        tensors={"token_embd.weight": "Q8_0"},
        license=None,
        chat_template_sha256=None,
    )


def build(root: Path, mark: str, recipe: str = RECIPE, target: str = TARGET) -> Manifest:
    """What a conversion does with the store, in small."""
    store = Store(root)
    store.sweep()
    require_space(root, MODEL_BYTES)
    with store.stage(recipe, target, key_of(mark)) as staging:
        model = staging.allocate("model.gguf", MODEL_BYTES)
        descriptor = os.open(model, os.O_RDWR)
        try:
            half = (mark.encode() * MODEL_BYTES)[: MODEL_BYTES // 2]
            os.pwrite(descriptor, half, MODEL_BYTES // 2)
            os.pwrite(descriptor, half, 0)
        finally:
            os.close(descriptor)
        notes = staging.allocate("notes/card.md", 0)
        notes.write_text(mark, encoding="utf-8")
        return staging.commit(manifest_of(mark, target))


def visible_mark(root: Path) -> str | None:
    """Name the build that is visible, after a check that it is whole and that nothing else is to be seen."""
    recipes = [each for each in root.iterdir() if not each.name.startswith(".")] if root.is_dir() else []
    visible = [target for recipe in recipes for target in recipe.iterdir()]
    listed = list_artifacts(root)
    assert [each.path for each in listed] == visible
    for each in listed:
        assert each.state is State.COMPLETE, each.problem
        report = inspect_artifact(each.path, verify=True)
        assert report.differences == ()
        mark = report.manifest.options["mark"]
        assert isinstance(mark, str)
        assert (each.path / "notes" / "card.md").read_text(encoding="utf-8") == mark
        return mark
    return None


def assert_recovers(root: Path) -> None:
    """The next build succeeds, and leaves nothing in the staging folder."""
    build(root, "next")
    assert visible_mark(root) == "next"
    assert [each.name for each in (root / ".staging").iterdir()] == [".turn"]


def prepare(root: Path, *, is_rebuild: bool) -> None:
    """Nothing at all, or an older artifact."""
    shutil.rmtree(root, ignore_errors=True)
    if is_rebuild:
        build(root, "old")


@contextmanager
def calls_counted(before: Callable[[], None]) -> Iterator[None]:
    """Have `before` called ahead of every call by which a build changes what is on the disk."""
    saved: list[tuple[Any, str, Any]] = []

    def wrap(module: Any, name: str) -> None:
        original = getattr(module, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            before()
            return original(*arguments, **named)

        saved.append((module, name, original))
        setattr(module, name, counted)

    for name in ("open", "write", "pwrite", "mkdir", "rename", "fsync", "posix_fallocate", "unlink", "rmdir"):
        wrap(os, name)
    wrap(swap, "exchange")
    try:
        yield
    finally:
        for module, name, original in saved:
            setattr(module, name, original)


def killed_at(root: Path, call: int) -> bool:
    """Run a build in a fork that dies ahead of its nth call; whether there was an nth."""
    child = os.fork()
    if child == 0:
        count = 0

        def die() -> None:
            nonlocal count
            count += 1
            if count == call:
                os._exit(9)

        with calls_counted(die):
            build(root, "new")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, 9}, status
    return status == 9


def sweep_calls(root: Path, *, has_exchange: bool = True) -> int:
    """Kill a first build and a rebuild at every call there is; how many places that made."""
    if not has_exchange:
        swap.exchange = _refused
    places = 0
    for is_rebuild in (False, True) if has_exchange else (True,):
        call = 1
        while True:
            prepare(root, is_rebuild=is_rebuild)
            was_killed = killed_at(root, call)
            if not has_exchange:
                Store(root).sweep()  # puts back what was set aside
            allowed = {"old" if is_rebuild else None, "new"} if was_killed else {"new"}
            assert visible_mark(root) in allowed, f"call {call}"
            assert_recovers(root)
            if not was_killed:
                break
            call += 1
            places += 1
    return places


def _refused(one: Path, other: Path) -> None:
    raise OSError(errno.EINVAL, "this file system cannot exchange", str(one), None, str(other))


def is_refused(root: Path, *, is_rebuild: bool) -> bool:
    """Build where there may be no room: then what was there is whole, and else the new one is."""
    with suppress(Failure):
        build(root, "new")
    mark = visible_mark(root)
    assert mark in {"new", "old" if is_rebuild else None}
    return mark != "new"


def fill_disk(root: Path) -> int:
    """Build with ever less room left on a small file system; how often there was too little."""
    refused = 0
    filler = root.parent / "filler"
    for is_rebuild in (False, True):
        for left_bytes in range(0, MODEL_BYTES + (64 << 10), 4096):
            filler.unlink(missing_ok=True)
            prepare(root, is_rebuild=is_rebuild)
            about = os.statvfs(root.parent)
            with filler.open("wb") as stream:
                os.posix_fallocate(stream.fileno(), 0, about.f_bavail * about.f_frsize - left_bytes)
            refused += is_refused(root, is_rebuild=is_rebuild)
            filler.unlink()
            assert_recovers(root)
    return refused


def fill_inodes(root: Path) -> int:
    """Build where ever fewer files can be made; how often there were too few."""
    refused = 0
    filler = root.parent / "filler"
    for is_rebuild in (False, True):
        for left in range(10):
            prepare(root, is_rebuild=is_rebuild)
            filler.mkdir()
            while os.statvfs(root.parent).f_ffree > left:
                (filler / str(os.statvfs(root.parent).f_ffree)).touch()
            refused += is_refused(root, is_rebuild=is_rebuild)
            staging = root / ".staging"
            assert not staging.is_dir() or {each.name for each in staging.iterdir()} <= {".turn"}
            shutil.rmtree(filler)
            assert_recovers(root)
    return refused


def wait_in_staging(root: Path) -> None:
    """Hold a staging folder open until told to finish."""
    with Store(root).stage(RECIPE, TARGET, key_of("waiting")) as staging:
        staging.allocate("model.gguf", MODEL_BYTES)
        sys.stdout.write(f"{staging.path}\n")
        sys.stdout.flush()
        sys.stdin.readline()
        staging.allocate("notes/card.md", 0).write_text("waiting", encoding="utf-8")
        staging.commit(manifest_of("waiting"))


def main(root: Path, mark: str, mode: str = "--build") -> None:
    """Do one of these."""
    match mode:
        case "--wait":
            wait_in_staging(root)
        case "--sweep":
            sys.stdout.write(f"{sweep_calls(root)}\n")
        case "--sweep-without-exchange":
            sys.stdout.write(f"{sweep_calls(root, has_exchange=False)}\n")
        case "--fill":
            sys.stdout.write(f"{fill_disk(root)}\n")
        case "--fill-inodes":
            sys.stdout.write(f"{fill_inodes(root)}\n")
        case "--many":
            for _ in range(10):
                build(root, mark)
        case _:
            Path(MARKER).exists()
            build(root, mark)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
