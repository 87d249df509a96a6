"""llama.cpp's own server, started for an artifact: what it says is what llama.cpp says of the same file."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert.child import ChildFailure
from convert.cli import app
from convert.errors import Exit
from tests.verify import planting
from tests.verify.opening import CHAT, LAID_OUT, TEXT, logits, opened
from verify import logprobs
from verify.parity import TEXTS
from verify.report import read
from verify.runtimes import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.verify.conftest import Made
    from verify.worker import Worker

pytestmark = pytest.mark.slow
SERVER = "llama-server"
RECIPE = """\
model: source
targets: {gguf: {quants: [F16]}}
verify:
  scenarios: [pack.yaml]
  tokens: 256
  serve: llama-server
  gates: {smoke_drop: null, top1: 0.8}
"""


@pytest.fixture(scope="module")
def served(chat: Made) -> Iterator[Worker]:
    pytest.importorskip("xllamacpp", reason="the serve extra is not installed")
    with opened("served", chat.f32, server=SERVER, top=10_000) as worker:
        yield worker


def test_tokens_template_and_sizes_are_those_of_the_file(served: Worker, gguf: Worker) -> None:
    for text in (*TEXTS, TEXT):
        assert served.tokenize(text) == gguf.tokenize(text)
        assert served.detokenize(served.tokenize(text)) == text
        assert served.count(Request(text=text)) == len(gguf.tokenize(text, add_bos=True))
    assert served.apply_template(CHAT) == LAID_OUT
    assert served.count(Request(messages=CHAT)) == len(gguf.tokenize(LAID_OUT, special=True))
    for known in ("vocab_size", "context_length", "chat_template"):
        assert getattr(served.info, known) == getattr(gguf.info, known)
    assert served.info.notes["server"] == SERVER


def test_answers_are_those_of_the_file(served: Worker, gguf: Worker) -> None:
    for request in (Request(text="The largest", max_tokens=8), Request(messages=CHAT, max_tokens=8)):
        assert served.answer(request) == gguf.answer(request)
    many = [Request(text=f"{n} planets", max_tokens=6) for n in range(6)]
    ticks = list(served.together(many))
    assert {tick.index for tick in ticks} == set(range(6))
    assert served.force(gguf.info.eog_ids[0]) == ("", "end")


@pytest.mark.parametrize("text", [TEXT, "\N{FOX FACE}龘"], ids=["words", "parts of characters"])
def test_logprobs_over_http_are_those_of_the_file(served: Worker, gguf: Worker, text: str) -> None:
    ids = gguf.tokenize(text * 20)[:40]
    windows = logprobs.cut(ids, 20)
    found = np.concatenate(list(logprobs.scored_logits(served, windows)))
    rows = np.concatenate([logits(gguf, list(window))[10:19] for window in windows.ids])
    wanted = logprobs.log_probabilities(rows)
    # The server has read the same prompts in other parts, and llama.cpp's sums differ with that.
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert np.abs(found - wanted).mean() < 2e-4


def test_an_artifact_is_verified_in_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xllamacpp", reason="the serve extra is not installed")
    planting.make_source(tmp_path / "source")
    planting.write_pack(tmp_path / "pack.yaml")
    (tmp_path / "m.yaml").write_text(RECIPE, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert app.run(["convert", "m.yaml", "--quiet"]) == Exit.DONE
    assert app.run(["verify", "m.yaml", "--quiet"]) == Exit.DONE
    report = read(Path("artifacts/m/report.json"))
    (artifact,) = report.artifacts
    assert artifact.opened is not None
    assert artifact.opened.runtime == "llama_server"
    checks = {check.name: check.passed for check in artifact.checks}
    assert checks.keys() >= {"tokenizer", "markup", "chat_template", "end_of_turn", "vocabulary", "answers"}
    assert artifact.quality is not None
    assert artifact.quality.kl_mean < 1e-4
    assert artifact.memory is not None
    assert artifact.memory.peak_rss_bytes > 10 << 20
    assert report.recipe_sha256
    # The same file in the runtime: the same figures.
    local = ["verify", "m.yaml", "--runtime", "llama_cpp", "--quiet"]
    assert app.run(local) == Exit.DONE
    (other,) = read(Path("artifacts/m/report.json")).artifacts
    assert other.quality is not None
    assert artifact.quality.ppl == pytest.approx(other.quality.ppl, rel=1e-3)
    assert artifact.quality.top1 == other.quality.top1
    assert artifact.quality.kl_tokens == 64
    assert artifact.quality.kl_mean <= other.quality.kl_mean + 1e-6


def test_a_damaged_file_is_a_reason(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="the serve extra is not installed")
    (tmp_path / "m.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ChildFailure, match="llama-server"):
        opened("served", tmp_path, server=SERVER)


def test_ctrl_c_leaves_no_server(chat: Made) -> None:
    code = (
        "import sys; from tests.verify.opening import opened; w = opened('served', sys.argv[1], "
        f"server={SERVER!r}); print(w._process.pid, flush=True); import time; time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(chat.q8_0)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        group = int(process.stdout.readline())
        assert len(group_of(group)) == 2
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
    until_s = time.monotonic() + 10
    while group_of(group) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not group_of(group)


def group_of(group: int) -> list[int]:
    """List the living processes of a group."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text("utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found
