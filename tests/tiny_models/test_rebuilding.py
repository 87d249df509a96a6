"""`make tiny-models` in miniature: from nothing to folders and cards, whatever kills it on the way."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.lab import vocabulary
from tests.lab.batches import Batches
from tests.lab.train import MODELS, SHIPPED, main, run_training
from tests.lab.training import PARTS, Progress

if TYPE_CHECKING:
    from tests.lab.samples import Sample

ROOT = Path(__file__).resolve().parents[2]
# The real program with a small plan; it is killed at the place named, a state half written to the disk.
MINIATURE = """
import os, signal, sys
from tests.lab import train
from tests.lab import citing, training
from tests.lab.training import Plan

citing.DIALOGUES = 5
train.PLANS = dict.fromkeys(train.MODELS, Plan(
    steps=7, decay_steps=3, tokens_per_step=512, warm_up_steps=2, save_every_s=0.0, outline_step=4
))
place, save = sys.argv.pop(1), training.torch.save

def save_or_die(state, path):
    save(state, path)
    if f"{state['shape']['family']}-{state['step']}" == place:
        os.truncate(path, path.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

training.torch.save = save_or_die
train.main()
"""


def _rebuild(folder: Path, killed_at: str) -> int:
    """Run once from where the last run ended, and return the exit status."""
    arguments = ["all", "--count", "1", "--device", "cpu"]
    arguments += ["--work", str(folder / "work"), "--out", str(folder / "out")]
    done = subprocess.run(
        [sys.executable, "-c", MINIATURE, killed_at, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=False,
        stdout=subprocess.DEVNULL,
    )
    return done.returncode


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_rebuilding_killed_again_and_again_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    """Killed before and after the citing heads begin, and in the other model: every byte is the same."""
    assert _rebuild(tmp_path / "whole", "never") == 0
    for place in ("qwen-3", "qwen-6", "gpt2-2"):
        assert _rebuild(tmp_path / "broken", place) == -signal.SIGKILL
        assert not (tmp_path / "broken/out" / MODELS[1]).exists()
    assert _rebuild(tmp_path / "broken", "never") == 0
    whole, broken = (_files(tmp_path / name / "out") for name in ("whole", "broken"))
    assert whole == broken
    states = [
        torch.load(tmp_path / name / "work" / f"{model}.pt", weights_only=True)
        for model in MODELS
        for name in ("whole", "broken")
    ]
    assert [state["step"] for state in states] == [7] * 4
    # What came out is laid out as what is shipped; training alone settles the rest.
    settled = {"evaluation.json", "README.md"}
    for model in MODELS:
        shipped = _files(SHIPPED / model)
        made = _files(tmp_path / "whole/out" / model)
        assert made.keys() == shipped.keys()
        for name, content in made.items():
            if name.endswith(".safetensors"):
                assert len(content) == len(shipped[name])
                assert _header(content) == _header(shipped[name])
                assert content != shipped[name]
            elif name not in settled:
                assert content == shipped[name], name
        assert b"The shipped weights saw 7 steps" in made["README.md"]


def _header(content: bytes) -> bytes:
    """Read names, types, shapes and places of the tensors in a safetensors file."""
    return content[8 : 8 + int.from_bytes(content[:8], "little")]


def test_a_vocabulary_cut_short_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the file would pass for a smaller vocabulary in the next run."""

    def cut_short(_: object, path: Path) -> None:
        path.write_text("AA== 0\n", encoding="ascii")
        raise KeyboardInterrupt

    monkeypatch.setattr(vocabulary, "learn", lambda _: {})
    monkeypatch.setattr(vocabulary, "write_tiktoken", cut_short)
    with pytest.raises(KeyboardInterrupt):
        run_training(MODELS[0], Namespace(work=tmp_path))
    assert not (tmp_path / "qwen.tiktoken").exists()


@pytest.mark.parametrize(
    "state", [{"step": 3}, {**dict.fromkeys(PARTS), "shape": {}}], ids=["older", "other"]
)
def test_a_state_of_another_training_is_refused(
    state: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(SHIPPED / MODELS[0] / "qwen.tiktoken", tmp_path)
    torch.save(state, tmp_path / f"{MODELS[0]}.pt")
    monkeypatch.setattr(torch, "set_num_threads", id)  # of this process, for good
    monkeypatch.setattr(
        sys, "argv", ["train", "train", MODELS[0], "--work", str(tmp_path), "--device", "cpu"]
    )
    with pytest.raises(
        SystemExit, match=r"^error: .*tiny-qwen\.pt: the state of an older .*\nhint:  move it"
    ):
        main()


def test_progress_after_a_resumption_counts_later_steps_only() -> None:
    """The first line after one speaks of fewer steps than the others: its means are of those."""
    said: list[str] = []
    progress = Progress(said.append, every=10)
    progress.step = 8
    for loss in (2.0, 4.0):
        progress.note(100, loss, 0.5)
    assert said[0].startswith("step 10  loss 3.000  right 0.500  ")


def test_batches_go_on_where_they_were(tmp_path: Path) -> None:
    """A row of batches saved in the middle of a pool goes on as if nothing had come between."""

    def made() -> Batches:
        rng = random.Random(6)

        def sample() -> Sample:
            ids = [rng.randrange(100) for _ in range(rng.randint(2, 30))]
            return ids, [rng.random() < 0.5 for _ in ids]

        return Batches(rng, sample, tokens=60, longest=25, pool_size=9)

    whole, broken, resumed = made(), made(), made()
    for _ in range(7):
        whole.following()
        broken.following()
    torch.save(broken.state(), tmp_path / "state.pt")
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(20):
        for one, other in zip(whole.following(), resumed.following(), strict=True):
            assert torch.equal(one, other)
