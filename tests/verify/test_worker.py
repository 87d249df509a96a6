"""Whatever a child does, the parent gets a reason for it soon, and carries on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert.child import ChildFailure, FaultKind
from convert.child.limits import MARK, Limits, environment
from convert.child.memory import usage
from convert.child.process import marked
from convert.errors import Failure
from verify.child import cpu_limit
from verify.runtimes import Request, RuntimeSettings, find_runtime, runtime_names, runtimes_for
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.child import Fault

BAD = str(Path(__file__).parent / "bad_runtime.py")
LIMITS = Limits(open_s=60, request_s=60, memory_bytes=300 << 20, output_bytes=4 << 20)
IMPATIENT = Limits(open_s=60, request_s=2.0, memory_bytes=300 << 20)


def launch(limits: Limits = LIMITS, **options: str) -> Launch:
    return Launch(BAD, "anything", RuntimeSettings(options=options), limits)


def open_fds() -> set[str]:
    return {os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}  # noqa: PTH115


def children() -> set[str]:
    """Name the processes that this one has started and not waited for, dead ones too."""
    tasks = Path("/proc/self/task").iterdir()
    return {pid for task in tasks for pid in (task / "children").read_text().split()}


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """No child, no zombie, no file descriptor, no thread and no scratch folder outlives a worker."""
    fds, others = open_fds(), children()  # tests before may have left what they share
    yield
    assert {fd for fd in open_fds() - fds if not fd.startswith("/proc")} == set()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("child-")]
    assert children() <= others


def fault_of(misdeed: str, limits: Limits = LIMITS) -> Fault:
    with Worker(launch(limits)) as worker:
        mark, scratch = worker._process._mark, worker.scratch
        with pytest.raises(ChildFailure) as caught:
            worker.tokenize(misdeed)
        if worker.fault is not None:
            assert worker.fault == caught.value.fault
            with pytest.raises(ChildFailure):  # it stays dead, and says so
                worker.tokenize("again")
    assert marked(mark) == ()
    assert not scratch.exists()
    return caught.value.fault


@pytest.mark.parametrize(
    ("misdeed", "kind", "reason", "last_words"),
    [
        ("crash", FaultKind.CRASHED, "SIGSEGV", "about to read address 0"),
        ("abort", FaultKind.CRASHED, "SIGABRT", "Aborted"),
        ("killed", FaultKind.CRASHED, "SIGKILL", ""),
        ("eat memory", FaultKind.OUT_OF_MEMORY, "315 MB are allowed", ""),
        ("eat memory in a child", FaultKind.OUT_OF_MEMORY, "315 MB are allowed", ""),
        ("ask too much", FaultKind.OUT_OF_MEMORY, "could not get the memory", "Unable to allocate"),
        ("flood stdout", FaultKind.FLOODED, "4.19 MB are allowed", ""),
        ("flood stderr", FaultKind.FLOODED, "4.19 MB are allowed", "noise noise"),
        ("fork and hold", FaultKind.EXITED, "exited with code 0", ""),
        ("leave the group", FaultKind.EXITED, "exited with code 7", ""),
        ("exit 0", FaultKind.EXITED, "exited with code 0", ""),
        ("exit 3", FaultKind.EXITED, "exited with code 3", ""),
        ("sys.exit", FaultKind.EXITED, "exited with code 0", ""),
        ("garbage", FaultKind.GARBLED, "the message begins with b'Segm'", ""),
        ("endless frame", FaultKind.GARBLED, "too long", ""),
        ("wrong json", FaultKind.GARBLED, "no object", ""),
        ("wrong answer", FaultKind.GARBLED, "makes no sense", ""),
        ("hang up", FaultKind.EXITED, "closed its side", ""),
        ("raise", FaultKind.CRASHED, "RuntimeError: a bug in two lines", "in two lines"),
        ("refuse", FaultKind.REFUSED, "this I will not read", ""),
    ],
)
def test_every_end_has_its_reason(misdeed: str, kind: FaultKind, reason: str, last_words: str) -> None:
    start = time.monotonic()
    fault = fault_of(misdeed)
    assert (fault.kind, reason in fault.reason) == (kind, True), fault
    assert last_words in "\n".join(fault.stderr_tail)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("misdeed", ["hang", "hang in native code"])
def test_a_hang_ends_at_its_limit(misdeed: str) -> None:
    fault = fault_of(misdeed, IMPATIENT)
    assert fault.kind is FaultKind.HUNG
    assert "within 2 s" in fault.reason
    assert misdeed != "hang" or fault.stderr_tail == ("going to sleep",)


def test_a_crash_while_opening_is_told_the_same_way() -> None:
    with pytest.raises(ChildFailure) as caught:
        Worker(launch(at_open="crash"))
    assert caught.value.fault.kind is FaultKind.CRASHED


@pytest.mark.slow
def test_the_overall_limit_counts_what_was_waited() -> None:
    with Worker(launch(Limits(open_s=60, request_s=60, total_s=60))) as worker:
        worker._left_s = 1.5
        time.sleep(1.6)  # the parent's own time is not the child's
        assert worker.tokenize("a") == [97]
        with pytest.raises(ChildFailure, match="did not answer"):
            worker.tokenize("hang")


def test_a_refusal_leaves_it_alive() -> None:
    with Worker(launch()) as worker:
        with pytest.raises(ChildFailure):
            worker.tokenize("refuse")
        assert worker.tokenize("ab", add_bos=True) == [0, 97, 98]
        assert worker.detokenize([97, 98]) == "ab"
    with pytest.raises(RuntimeError, match="closed"):
        worker.tokenize("a")
    assert worker.fault is None


def test_much_output_blocks_nobody() -> None:
    with Worker(launch()) as worker:
        assert worker.tokenize("chatter")[0] == ord("c")
        deadline_s = time.monotonic() + 60
        while not (tail := worker.stderr_tail())[-1:] or not tail[-1].startswith("line 1999 eee"):
            assert time.monotonic() < deadline_s, tail  # a thread reads it, in its own time
            time.sleep(0.01)
        assert len(tail) == 20
        assert all(len(line) <= 500 for line in tail)


def test_logits_come_in_blocks_of_bounded_size() -> None:
    with Worker(launch()) as worker:
        blocks = list(worker.logits([5, 6]))
        assert [block.shape for block in blocks] == [(3, 1 << 20)] * 2
        assert all(np.all(block == number) for block, number in zip(blocks, [5, 6], strict=True))
        with pytest.raises(ChildFailure, match="SIGSEGV"):
            list(worker.logits([12, 13, 14]))


def test_a_stream_can_be_left_early() -> None:
    with Worker(launch()) as worker:
        pieces = worker.generate(Request(text="x", max_tokens=10**9))
        first = [next(pieces).text for _ in range(5)]
        assert first == ["0 ", "1 ", "2 ", "3 ", "4 "]
        with pytest.raises(RuntimeError, match="one request at a time"):
            worker.tokenize("a")
        pieces.close()
        assert worker.tokenize("a") == [97]
        blocks = worker.logits([1] * 50)
        next(blocks)
        del blocks
        assert worker.answer(Request(text="x", max_tokens=3)) == "0 1 2 "


def test_a_stream_that_hangs_keeps_what_came() -> None:
    with Worker(launch(IMPATIENT)) as worker:
        pieces = worker.generate(Request(text="x", stop=("hang",)))
        assert next(pieces).text == "0 "  # those that come fast are sent together, but never the first
        with pytest.raises(ChildFailure, match="within 2 s"):
            next(pieces)


def test_texts_and_chats_become_ids_in_the_child() -> None:
    with Worker(launch()) as worker:
        assert worker.apply_template([{"role": "user", "content": "hi"}]) == "hi>"
        assert [tick.index for tick in worker.together([Request(ids=(1,)), Request(ids=(2,))])] == [0, 1]
    with pytest.raises(ValueError, match="exactly one"):
        Request(text="a", ids=(1,))


def test_a_template_that_loops_is_stopped_by_its_cpu_time() -> None:
    def loop() -> None:
        with cpu_limit(0.1):
            while True:
                pass

    with pytest.raises(Failure, match="more CPU time"):
        loop()
    with Worker(launch()) as worker:  # and the child uses it
        with pytest.raises(ChildFailure, match="more CPU time"):
            worker.apply_template([{"role": "user", "content": "loop"}])
        assert worker.tokenize("a") == [97]


@pytest.mark.slow
def test_a_template_that_stays_in_c_is_stopped_by_the_kernel() -> None:
    script = "from itertools import repeat; from verify.child import cpu_limit\n"
    script += "with cpu_limit(0.1): sum(repeat(1))"
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=300)
    assert done.returncode == -signal.SIGVTALRM


def test_the_environment_is_an_allow_list(tmp_path: Path) -> None:
    parent = {
        "HF_TOKEN": "t",
        "OPENAI_API_KEY": "k",
        "AWS_SECRET": "s",
        "PATH": "/bin",
        "LC_ALL": "C",
        "HOME": "/h",
    }
    made = environment(tmp_path, ("OPENAI_API_KEY",), parent)
    assert made["OPENAI_API_KEY"] == "k"
    assert not {"HF_TOKEN", "AWS_SECRET"} & set(made)
    assert (made["PATH"], made["LC_ALL"], made["HOME"]) == ("/bin", "C", str(tmp_path))
    assert made["HF_HUB_OFFLINE"] == made["TRANSFORMERS_OFFLINE"] == "1"


def test_the_child_sees_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "secret")
    with Worker(launch()) as worker:
        seen = Path(f"/proc/{worker._process.pid}/environ").read_bytes()
        assert b"secret" not in seen
        assert MARK.encode() in seen
        assert os.getpgid(worker._process.pid) == worker._process.pid != os.getpgid(0)
        assert Path(f"/proc/{worker._process.pid}/oom_score_adj").read_text() == "1000\n"


def test_memory_is_seen_from_outside() -> None:
    with Worker(launch()) as worker:
        seen = usage(worker._process.pid)
        assert seen is not None
        assert 5 << 20 < seen.anon <= seen.rss <= seen.peak_rss
        peaks = worker.peaks()
        assert peaks.rss_bytes >= seen.rss
    assert worker.peaks() == peaks or worker.peaks().rss_bytes >= peaks.rss_bytes
    assert usage(worker._process.pid) is None


PARENT = """
import sys, time
from verify.worker import Launch, Worker
from verify.runtimes import RuntimeSettings
worker = Worker(Launch({bad!r}, "x", RuntimeSettings()))
print(worker._process._mark, worker.scratch, flush=True)
with worker:
    worker.tokenize("hang in native code" if sys.argv[1] == "native" else "hang")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_a_parent_that_ends_takes_its_child_along(name: str) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(bad=BAD), "native" if name == "SIGINT" else "sleep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    with parent:
        mark, scratch = parent.stdout.readline().split()
        assert len(marked(mark)) == 1
        parent.send_signal(signal.Signals[name])
    deadline = time.monotonic() + 20
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marked(mark) == ()
    assert not Path(scratch).exists()


def test_runtimes_are_found_by_their_file() -> None:
    assert {"llama_cpp", "transformers", "openai_http"} <= set(runtime_names())
    assert runtimes_for("http://localhost:1/v1") == ("openai_http",)
    with pytest.raises(Exception, match="no runtime called 'nonesuch'"):
        find_runtime("nonesuch")
    with pytest.raises(Exception, match="no such runtime file"):
        find_runtime("/nowhere/x.py")


def test_what_suits_a_folder_is_seen_without_opening(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nothing here that any runtime opens"):
        runtimes_for(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "model.safetensors").touch()
    assert runtimes_for(tmp_path) == ("transformers",)
    other = tmp_path / "gguf"
    other.mkdir()
    (other / "a.gguf").touch()
    assert runtimes_for(other) == runtimes_for(other / "a.gguf") == ("llama_cpp", "openvino_genai")


def test_the_parent_imports_no_natives() -> None:
    code = "import sys, verify.worker, verify.runtimes as r; r.find_runtime('llama_cpp'); "
    code += "print(sorted(sys.modules))"
    names = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"'llama_cpp'", "'torch'", "'transformers'"} & set(names.strip("[]\n").split(", "))
