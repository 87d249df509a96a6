"""Two commands over one artifact at the same time, and one that is stopped: nothing false is said of it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from convert.errors import Failure
from convert.formats import load_recipe
from convert.progress import Silent
from convert.publish.destinations.folder import FolderDestination
from tests.destinations.bundles import tree
from tests.faults.forking import forked
from tests.publish.artifacts import TARGETS, build, stand
from tests.publish.bundles import bundle
from tests.test_bad_input import make_model
from verify.examination import Examination
from verify.task import Plan, Silence, Subject

if TYPE_CHECKING:
    from pathlib import Path

STOPPED_S = 1.0


def test_an_artifact_that_is_built_again_while_it_is_verified_does_not_pass(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    folder = root / recipe.name / TARGETS[0]
    examination = Examination(Subject("it", folder), Plan(packs=(), text="", text_name=""), Silence())
    examination.look_at_files()
    examination.look_again()
    assert [check.passed for check in examination.result().checks][:1] == [True]
    build(recipe, root, TARGETS[0], size_bytes=50_000)
    examination.look_again()
    found = [check for check in examination.result().checks if check.name == "digests"]
    assert [(check.passed, check.measured) for check in found] == [(False, "changed")]
    shutil.rmtree(folder)
    examination.look_again()
    assert "is not now" in examination.result().checks[0].why


@pytest.mark.parametrize(("size_bytes", "goes_out"), [(30_000, False), (40_000, True)])
def test_an_artifact_that_is_built_again_while_it_is_published(
    size_bytes: int, *, goes_out: bool, tmp_path: Path
) -> None:
    """What goes out is what was verified, whole, or nothing."""
    what = bundle(tmp_path)
    recipe, root = load_recipe(tmp_path / "small.yaml"), tmp_path / "artifacts"

    class Building(Silent):
        """What happens when the first byte is to be copied."""

        def stage(self, label: str, total_bytes: int) -> Any:
            build(recipe, root, TARGETS[0], size_bytes=size_bytes)
            return super().stage(label, total_bytes)

    shelf = tmp_path / "shelf"
    place = FolderDestination(shelf)
    with nullcontext() if goes_out else pytest.raises(Failure, match="changed since"):
        place.send(what, place.survey(what), Building())
    found = [tree(each) for each in shelf.glob("[!.]*")]
    assert len(found) == goes_out
    for files in found:
        assert files.pop("published.json")
        assert files == {file.path: file.read() for file in what.files}


@pytest.mark.slow
def test_a_conversion_that_is_stopped_and_goes_on_makes_the_same_bytes(quick_disk: Path) -> None:
    """As on a laptop that sleeps in the middle."""
    make_model(quick_disk / "model")
    (quick_disk / "recipe.yaml").write_text("model: ./model\ntargets:\n  gguf: {quants: [Q8_0, Q4_K_M]}\n")
    root = quick_disk / "artifacts"

    def stop(pid: int) -> None:
        while not list((root / ".staging").glob("*/*.gguf")):
            time.sleep(0.001)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(STOPPED_S)
        assert not list(root.glob("*/*/manifest.json"))
        os.kill(pid, signal.SIGCONT)

    with forked(quick_disk, "convert", "recipe.yaml", "--out", "artifacts", "--quiet") as run:
        whole = tree(root)
        shutil.rmtree(root)
        ended = run.run(meanwhile=stop)
    assert (ended.status, ended.said) == (0, "")
    assert tree(root) == whole
