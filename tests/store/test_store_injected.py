"""A conversion, and the report of a verification, met by a fault at any system call."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from convert.cli.failure import report as explain
from convert.pipeline.stage.keep import render
from convert.store import clean
from tests.destinations.bundles import tree
from tests.faults.forking import forked
from tests.faults.injecting import FAULTS, sweep, tracing
from tests.publish.artifacts import GOOD, TARGETS, result, stand
from tests.test_bad_input import make_model
from verify.report import NAME, read, write_json

if TYPE_CHECKING:
    from collections import Counter

RECIPE = "model: ./model\ntargets:\n  gguf: {quants: [Q8_0]}\n"
LINE = ("convert", "recipe.yaml", "--out", "artifacts", "--quiet")


def visible(root: Path) -> dict[str, bytes]:
    return {path: data for path, data in tree(root).items() if not path.startswith(".")}


def converting(place: Path, *, is_rebuild: bool, every: int = 1) -> Counter[str]:
    """Sweep a conversion, into nothing or over the artifact of another model."""
    tracing(place)
    root = place / "artifacts"
    make_model(place / "model")
    (place / "recipe.yaml").write_text(RECIPE)
    with forked(place, *LINE) as run:
        new = visible(root)
        shutil.rmtree(root)
        old: dict[str, bytes] = {}
        if is_rebuild:
            (place / "model").rename(place / "next")
            make_model(place / "model", rope_theta=20_000.0)
            assert run.run().status == 0
            old = visible(root)
            assert old.keys() == new.keys()
            assert old != new
            shutil.move(root, place / "old")
            shutil.rmtree(place / "model")
            (place / "next").rename(place / "model")

        def prepare() -> None:
            shutil.rmtree(root, ignore_errors=True)
            if is_rebuild:
                shutil.copytree(place / "old", root)

        def check() -> str:
            found = visible(root) if root.exists() else {}
            assert found in (old, new)
            return "new" if found == new else "old"

        def left() -> None:
            clean(root)  # which a run that finds all up to date leaves to a person
            assert [each.name for each in (root / ".staging").iterdir()] == [".turn"]
            assert check() == "new"

        return sweep(run, prepare, check, left, every=every)


@pytest.mark.slow
def test_a_conversion_met_by_a_fault_at_some_calls(quick_disk: Path) -> None:
    counts = converting(quick_disk, is_rebuild=True, every=30)
    assert sum(counts[fault] for fault in FAULTS) > 4


@pytest.mark.exhaustive
@pytest.mark.parametrize("is_rebuild", [False, True], ids=["into nothing", "over another"])
def test_a_conversion_met_by_every_fault_at_every_call(quick_disk: Path, *, is_rebuild: bool) -> None:
    counts = converting(quick_disk, is_rebuild=is_rebuild)
    assert sum(counts[fault] for fault in FAULTS) > 100
    print(dict(counts))


def write_reports(words: list[str]) -> int:
    """Write the three files of a report as `verify` does: what the script above runs."""
    source, folder = map(Path, words)
    try:
        report = read(source)
        write_json(folder / NAME, report)
        render(report, folder, [])
    except Exception as error:  # noqa: BLE001 - as the command line does with any
        return explain(error)
    return 0


@pytest.mark.exhaustive
def test_a_report_met_by_every_fault_at_every_call(quick_disk: Path) -> None:
    tracing(quick_disk)
    recipe, root = stand(quick_disk / "ground")
    folder = root / recipe.name
    old_report = read(folder / NAME)
    assert render(old_report, folder, [])
    names = ("report.json", "report.md", "report.html")
    old = {name: (folder / name).read_bytes() for name in names}
    found = [result(recipe, folder / target, {**GOOD, "top1": 0.98}) for target in TARGETS]
    write_json(quick_disk / "next.json", old_report.model_copy(update={"artifacts": tuple(found)}))
    words = (str(quick_disk / "next.json"), str(folder))
    with forked(quick_disk, *words, act="tests.store.test_store_injected:write_reports") as run:
        new = {name: (folder / name).read_bytes() for name in names}
        assert all(old[name] != new[name] for name in names)

        def prepare() -> None:
            for name in names:
                (folder / name).write_bytes(old[name])

        def check() -> str:
            """Each file is whole; they are replaced one after the other, the one that decides first."""
            states = ["new" if (folder / name).read_bytes() == new[name] else "old" for name in names]
            for name, state in zip(names, states, strict=True):
                assert (folder / name).read_bytes() == {"new": new, "old": old}[state][name]
            assert states == sorted(states)
            return states[-1]

        def left() -> None:
            for part in folder.glob(".*.part"):  # of a process that is not seen from here, for an hour
                os.utime(part, (0, 0))
            assert run.run().status == 0
            assert not list(folder.glob(".*"))

        counts = sweep(run, prepare, check, left)
    assert sum(counts[fault] for fault in FAULTS) > 30
    print(dict(counts))
