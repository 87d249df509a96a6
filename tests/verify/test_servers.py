"""Each server is started as its makers say, asked, and ended with all that it started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.child import ChildFailure, FaultKind, Limits
from convert.child.limits import MARK
from convert.errors import Failure, UsageFailure
from tests.verify import stand_in
from verify import logprobs
from verify.counts import compare_counts
from verify.parity import CHATS, TEXTS, Profile
from verify.runtimes import Request, RuntimeSettings
from verify.servers import check_server, choose_server, find_server, server_names
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
LIMITS = Limits(open_s=30, request_s=20)
VARIABLES = ("STAND_IN_LOG", "STAND_IN_LISTED", "STAND_IN_STRAYS", "STAND_IN_EXITS", "STAND_IN_DIES")
# By server: the programs that are called, and the options of theirs that are documented.
PROGRAMS = {
    "vllm": "python",
    "sglang": "python",
    "fastchat": "python",
    "llama-cpp-python": "python",
    "llama-server": "llama-server",
    "tgi": "text-generation-launcher",
    "ollama": "ollama",
    "lmdeploy": "lmdeploy",
    "ray-serve": "serve",
    "xinference": "xinference-local",
}
OPTIONS = {
    "vllm": "--model --served-model-name --host --port --max-model-len --max-num-seqs --max-logprobs",
    "sglang": "--model-path --served-model-name --host --port --context-length --max-running-requests",
    "fastchat": "--host --port --controller-address --worker-address --model-path --model-names "
    "--limit-worker-concurrency",
    "llama-cpp-python": "--model --model_alias --host --port --n_ctx --n_threads --n_threads_batch "
    "--interrupt_requests",
    "llama-server": "--model --alias --host --port --ctx-size --parallel --threads --jinja",
    "tgi": "--model-id --hostname --port --master-port --prometheus-port --shard-uds-path "
    "--max-total-tokens --max-input-tokens --max-concurrent-requests",
    "ollama": "",
    "lmdeploy": "--server-name --server-port --model-name --session-len --max-batch-size",
    "ray-serve": "",
    "xinference": "--host --port --metrics-exporter-port --model-type --file --endpoint --model-name "
    "--model-uid --model-engine --model-format --size-in-billions --quantization --model-path",
}


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Worker]:
    """Start a server's stand-in for an artifact of no content."""
    programs, artifact = tmp_path / "bin", tmp_path / "artifact"
    programs.mkdir()
    artifact.mkdir()
    (artifact / "config.json").write_text('{"vocab_size": 256, "max_position_embeddings": 512}')
    (artifact / "m.gguf").touch()
    body = f'#!/bin/sh\nexec {sys.executable} -c \'{CALL}\' "$0" "$@"\n'
    for name in {*PROGRAMS.values(), "xinference"}:
        (programs / name).write_text(body)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_LOG", str(tmp_path / "log"))
    monkeypatch.setenv("STAND_IN_LISTED", str(tmp_path / "listed"))

    def start(name: str, **options: Any) -> Worker:
        program = PROGRAMS[name]
        given = {"program": str(programs / program)} if program == "python" else {}
        chosen = {"server": name, "top": 20, **given, **options}
        chosen = {key: value for key, value in chosen.items() if value is not None}
        settings = RuntimeSettings(128, 1, chosen)
        return Worker(Launch("served", artifact, settings, LIMITS, VARIABLES))

    return start


CALL = (
    f'import sys; sys.path.insert(0, "{ROOT}"); sys.argv = sys.argv[1:]; '
    "from tests.verify.stand_in import main; main()"
)


def calls(tmp_path: Path) -> list[list[str]]:
    return [json.loads(line) for line in (tmp_path / "log").read_text("utf-8").splitlines()]


def marked() -> list[str]:
    """List the living processes that carry the mark of a worker of this test, and of none next to it."""
    found, mine = [], f"STAND_IN_LOG={os.environ['STAND_IN_LOG']}\0".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}=".encode() in path.read_bytes() and mine in path.read_bytes():
                found.append((path.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
        except OSError:
            continue
    return found


def test_every_server_is_described_here() -> None:
    assert set(server_names()) == set(PROGRAMS) == set(OPTIONS)
    with pytest.raises(UsageFailure, match="there is no server called 'nonesuch'"):
        check_server("nonesuch")
    with pytest.raises(Failure, match="ollama opens gguf, and this is onnx"):
        choose_server("anywhere", "onnx", "ollama")
    assert choose_server("anywhere", "gguf", "ollama") == ("served", ())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_each_is_started_by_documented_options_and_answers(
    name: str, opened: Callable[..., Worker], tmp_path: Path
) -> None:
    if name == "llama-server":
        pytest.skip("the real one runs in test_servers_real.py")
    with opened(name, args=["--an-option-of-mine"]) as worker:
        assert worker.info.runtime == name.replace("-", "_")
        assert worker.info.notes["server"] == name
        alone = worker.answer(Request(text="abc", max_tokens=5))
        assert len(alone) == 5
        assert worker.count(Request(text="12345")) == 5
        assert {tick.index for tick in worker.together([Request(text="abc", max_tokens=3)] * 3)} == {0, 1, 2}
        assert worker.peaks().anon_bytes > 0
    given = calls(tmp_path)
    assert given[0][0] == PROGRAMS[name]
    assert any("--an-option-of-mine" in each for each in given)  # of several programs, whichever began first
    used = {word for call in given for word in call if word.startswith("--")} - {"--an-option-of-mine"}
    assert used <= set(OPTIONS[name].split()), used
    assert not marked()


@pytest.mark.parametrize("name", ["vllm", "sglang"])
def test_logprobs_over_http_are_those_of_the_model(name: str, opened: Callable[..., Worker]) -> None:
    ids = list(b"the quick brown fox jumps over it")
    with opened(name) as worker:
        assert worker.info.top_logprobs == 20
        assert worker.seats() == 16
        rows = np.concatenate(list(worker.top_logprobs(ids, 10)))
        windows = logprobs.Windows((tuple(ids),))
        scored = np.concatenate(list(logprobs.scored_logits(worker, windows)))
    true = stand_in.table()
    assert rows.shape == (len(ids) - 11, 256)
    assert scored.shape == (len(windows.scored), 256)
    for row, before, token in zip(rows, ids[10:], ids[11:], strict=False):
        known = np.isfinite(row)
        assert known[token]
        assert known.sum() in (20, 21)
        np.testing.assert_allclose(row[known], true[before][known], rtol=1e-6)
        assert row.argmax() == true[before].argmax()


def test_the_divergence_over_some_tokens_is_a_lower_bound() -> None:
    random = np.random.default_rng(1)
    drawn = (random.normal(0, 2, (40, 300)).astype(np.float32) for _ in range(2))
    wanted, other = map(logprobs.log_probabilities, drawn)
    got = 0.8 * wanted + 0.2 * other
    got -= np.log(np.exp(got).sum(axis=1, keepdims=True))
    exact = logprobs.kl(wanted, got)
    last = np.zeros_like(exact)
    for top in (1, 5, 50, 299, 300):
        cut = np.sort(got, axis=1)[:, -top][:, None]
        found = logprobs.kl(wanted, np.where(got >= cut, got, -np.inf))
        assert (found <= exact + 1e-9).all()
        assert (found >= last - 1e-6).all()  # more tokens, more of it
        last = found
    np.testing.assert_allclose(last, exact)


def profile(**changes: Any) -> Profile:
    """What the source of the stand-in's model would be."""
    chats = tuple(stand_in.chat([dict(each) for each in chat]) for chat in CHATS)
    known: dict[str, Any] = {
        "context_length": 512,
        "vocab_size": 256,
        "ends": {stand_in.END: "\0"},
        "ids": tuple(tuple(text.encode()) for text in (*TEXTS, TEXTS[0])),
        "texts": TEXTS,
        "markup": {"\0": (0,)},
        "chats": chats,
        "chat_ids": tuple(tuple(chat.encode()) for chat in chats),
        "pieces": {each: chr(each) for each in b"user"},
    }
    return Profile(**{**known, **changes})


def test_counts_template_and_ends_are_compared_over_the_protocol(opened: Callable[..., Worker]) -> None:
    with opened("lmdeploy") as worker:
        good = {check.name: check for check in compare_counts(worker, profile())}
        assert all(check.passed for check in good.values()), good
        assert set(good) == {"tokenizer", "markup", "chat_template", "end_of_turn"}
        longer = tuple((*ids, 1) for ids in profile().chat_ids)
        for changes, wrong in (
            ({"ids": ((1,), *profile().ids[1:])}, "tokenizer"),
            ({"markup": {"<end>": (0,)}}, "markup"),
            ({"chat_ids": longer}, "chat_template"),
            ({"ends": {stand_in.END: "", ord("a"): "a"}}, "end_of_turn"),
        ):
            found = [check.name for check in compare_counts(worker, profile(**changes)) if not check.passed]
            assert wrong in found, changes
    assert not marked()


def test_a_server_that_ends_says_why(opened: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_DIES", "1")
    with opened("lmdeploy") as worker:
        with pytest.raises(ChildFailure, match=r"lmdeploy ended: .*SIGSEGV") as caught:
            worker.answer(Request(text="now!", max_tokens=3))
        assert caught.value.fault.kind is FaultKind.CRASHED
        assert worker.fault is not None
    monkeypatch.setenv("STAND_IN_EXITS", "1")
    with pytest.raises(ChildFailure, match="lmdeploy exited with code 3") as caught:
        opened("lmdeploy")
    assert "no such architecture" in caught.value.fault.stderr_tail
    assert not marked()


def test_a_program_that_is_not_there_is_named(
    opened: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for name, said in {"ollama": "no program ollama on PATH", "tgi": "text-generation-launcher"}.items():
        if shutil.which(name) is None:
            with pytest.raises(ChildFailure, match=said):
                opened(name)
    with pytest.raises(ChildFailure, match="no Python here has sglang"):
        opened("sglang", program=None)


HOLDING = """
import sys, time
from convert.child import Limits
from verify.runtimes import RuntimeSettings
from verify.worker import Launch, Worker
settings = RuntimeSettings(128, 1, {"server": "lmdeploy"})
with Worker(Launch("served", sys.argv[1], settings, Limits(), tuple(sys.argv[2:]))) as worker:
    print("open", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("opened")  # its programs are on PATH
@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_running(by: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The verification is killed, or interrupted; its server has left a process in a session of its own."""
    monkeypatch.setenv("STAND_IN_STRAYS", "1")
    command = [sys.executable, "-c", HOLDING, str(tmp_path / "artifact"), *VARIABLES]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        assert any("sleep" in each for each in marked())
        process.send_signal(by)
        process.wait(timeout=20)
    deadline = time.monotonic() + 10
    while marked() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not marked()


def test_each_server_has_a_hint() -> None:
    assert all(find_server(name).hint for name in server_names())
