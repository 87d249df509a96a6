"""Figures are complete, from outside, and taken in turns; how high they are is not for a test to say."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convert.child import ChildFailure, Fault, FaultKind, Limits
from verify import measure
from verify.machine import describe_machine, read_nvidia
from verify.measure import SpeedPlan, fits_together, measure_in_turns, prompt
from verify.runtimes import Info, Piece, Request, RuntimeSettings, Tick
from verify.sample import Measured, Samples, percentile, spread
from verify.undisturbed import TRIES, undisturbed
from verify.worker import Launch, Worker

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from tests.verify.conftest import Made

BAD = str(Path(__file__).parent / "bad_runtime.py")
PLAN = SpeedPlan(prompt_tokens=40, answer_tokens=8, concurrency=(1, 3), concurrent_tokens=10)
SERVERS = ("vllm", "llama-server")
LIMITS = Limits(open_s=60, request_s=60)


def llama(path: Path) -> Launch:
    return Launch("llama_cpp", path, RuntimeSettings(threads=1), LIMITS)


@pytest.mark.parametrize("keeps_open", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_all_are_measured_and_what_crashes_is_out(
    chat: Made, monkeypatch: pytest.MonkeyPatch, *, keeps_open: bool
) -> None:
    opened: list[str] = []

    class Counted(Worker):
        def __init__(self, launch: Launch) -> None:
            opened.append(Path(launch.path).name)
            super().__init__(launch)

    monkeypatch.setattr(measure, "Worker", Counted)
    launches = {
        "F32": llama(chat.f32),
        "bad": Launch(BAD, "bad", RuntimeSettings(options={"at_open": "crash"}), LIMITS),
        "Q8_0": llama(chat.q8_0),
    }
    found = measure_in_turns(launches, PLAN, keeps_open=keeps_open)
    assert list(found) == ["F32", "bad", "Q8_0"]
    fault = found.pop("bad")
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.CRASHED
    for measured in found.values():
        assert isinstance(measured, Measured)
        speed, memory = measured.speed, measured.memory
        assert (speed.ttft_s.count, speed.prompt_tokens, speed.answer_tokens) == (6, 40, 8)
        assert speed.load_s.count == 3
        assert speed.decode_tok_s is not None
        assert 0 < speed.decode_tok_s.low <= speed.decode_tok_s.median <= speed.decode_tok_s.high
        assert 0 < (speed.inter_token_p50_s or 0) <= (speed.inter_token_p95_s or 0)
        assert set(speed.throughput_tok_s) == {1, 3}
        assert memory is not None
        assert 5 << 20 < memory.peak_anon_bytes < memory.peak_rss_bytes
        assert memory.kv_bytes_per_token_computed == 1024
        assert memory.kv_bytes_per_token == pytest.approx(1024, abs=16)
        json.dumps(asdict(measured), allow_nan=False)
    # In turns: each in its place, another one first every time; and the one that failed only once.
    assert opened.count("bad") == 1
    assert opened.count("gguf-F32") == opened.count("gguf-Q8_0") == 3


@pytest.mark.slow
def test_a_source_that_answers_one_at_a_time_is_opened_once(chat: Made) -> None:
    source = Launch("transformers", chat.source, RuntimeSettings(threads=1), LIMITS)
    launches = {"Q8_0": llama(chat.q8_0), "source": source}
    found = measure_in_turns(launches, replace(PLAN, rounds=1), once=("source",), keeps_open=True)
    speeds = {name: each.speed for name, each in found.items() if isinstance(each, Measured)}
    assert {name: (each.load_s.count, each.ttft_s.count) for name, each in speeds.items()} == {
        "Q8_0": (3, 2),
        "source": (1, 1),
    }
    assert not speeds["source"].throughput_tok_s


STOP_S = 0.8


def stop(worker: Worker, *, is_all: bool) -> None:
    """Stop a worker, or this process as well, and let them go on: as Ctrl-Z, or a lid that is closed."""
    pids = [worker._process.pid, *([os.getpid()] if is_all else [])]
    script = f"kill -STOP {' '.join(map(str, pids))}; sleep {STOP_S}; kill -CONT {' '.join(map(str, pids))}"
    subprocess.run(["sh", "-c", script], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("is_all", [False, True], ids=["the child", "both"])
def test_no_figure_is_taken_over_a_stop(chat: Made, monkeypatch: pytest.MonkeyPatch, *, is_all: bool) -> None:
    """Each kind of measurement is stopped once in its middle."""
    done: Counter[str] = Counter()

    class Sleepy(Worker):
        def __init__(self, launch: Launch) -> None:
            super().__init__(launch)
            done["open"] += 1
            if done["open"] == 1:
                stop(self, is_all=is_all)

        def generate(self, request: Request) -> Generator[Piece, None, None]:
            done["generate"] += 1
            for number, piece in enumerate(super().generate(request)):
                yield piece
                if (done["generate"], number) == (2, 0):  # the first is to warm up
                    stop(self, is_all=is_all)

        def together(self, requests: Sequence[Request]) -> Generator[Tick, None, None]:
            done["together"] += 1
            if done["together"] == 1:
                stop(self, is_all=is_all)
            return super().together(requests)

    monkeypatch.setattr(measure, "Worker", Sleepy)
    plan = replace(PLAN, openings=1, rounds=1, concurrency=(3,))
    found = measure_in_turns({"F32": llama(chat.f32)}, plan)["F32"]
    assert isinstance(found, Measured), found
    assert done == {"open": 3, "generate": 4, "together": 2}
    assert found.speed.load_s.count == 2
    assert found.speed.ttft_s.count == 1


@pytest.mark.parametrize("stops", [0, TRIES - 1, TRIES])
def test_a_measurement_that_is_stopped_each_time_is_given_up(stops: int) -> None:
    def take(number: int) -> tuple[int, float]:
        return number, 60.0 if number < stops else 0.0

    if stops < TRIES:
        assert undisturbed(take) == stops
        return
    with pytest.raises(ChildFailure, match="each of 5 measurements was stopped in its middle"):
        undisturbed(take)


def test_what_is_no_process_of_ours_has_no_memory() -> None:
    samples = Samples(load_s=[1.0], throughput={1: 10.0})
    pieces = [Piece(None, "a", 0.5), Piece(None, "b", 1.0), Piece(None, "", 1.1, "end", 4)]
    samples.take(Request(text="x"), pieces)
    found = samples.figures()
    assert found.memory is None
    assert found.speed.prefill_tok_s is None
    assert found.speed.decode_tok_s == spread([6.0])  # the server counts four tokens, and says so
    with pytest.raises(ChildFailure, match="an empty answer"):
        samples.take(Request(text="x"), pieces[-1:])


def test_false_counts_and_times_are_not_believed() -> None:
    samples, request = Samples(load_s=[1.0]), Request(text="x", max_tokens=2)
    pieces = [Piece(1, "a", 0.1), Piece(2, "b", 0.2)]
    with pytest.raises(ChildFailure, match="wrote 3 tokens, and was asked for 2"):
        samples.take(request, [*pieces, Piece(3, "c", 0.3)])
    for passed_s in (0.2, 9.0, 0.3):  # once late, for others kept the machine busy
        samples.take(request, pieces, passed_s)
    assert samples.doubt() is None
    for _ in range(2):
        samples.take(request, pieces, 3.0)
    doubt = samples.doubt()
    assert doubt is not None
    assert doubt.reason == "it says that an answer takes 0.20 s, and 3.00 s passed here"


def test_prompts_fit_the_context_and_differ() -> None:
    info = Info("x", ("tokenize",), 50, vocab_size=10)
    made = [prompt(info, 100, 100, seed) for seed in "ab"]
    assert [len(one.ids or ()) for one in made] == [25, 25]
    assert made[0].max_tokens == 25
    assert made[0] != made[1]
    assert made[0] == prompt(info, 100, 100, "a")
    assert prompt(Info("server", ("generate",), 50), 10, 5, "a").text


def test_files_that_are_too_big_together_take_turns_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gguf").write_bytes(bytes(1000))
    launches = [
        Launch("llama_cpp", tmp_path),
        Launch("llama_cpp", tmp_path / "a.gguf"),
        Launch("x", "http://h"),
    ]
    served = [Launch("served", tmp_path, RuntimeSettings(options={"server": name})) for name in SERVERS]
    for spare, answer in ((4001, True), (4000, False)):
        monkeypatch.setattr(measure, "available_memory", lambda spare=spare: spare)
        assert fits_together(launches) is answer
    monkeypatch.setattr(measure, "available_memory", lambda: 5000)
    assert [fits_together([each]) for each in served] == [True, True]
    assert not fits_together([served[0]] * 2)  # on a GPU, the second would find no room
    assert fits_together([served[1]] * 2)


def test_spreads_are_medians_with_quartiles() -> None:
    assert asdict(spread([5.0, 1.0, 4.0, 2.0, 3.0])) == {"median": 3.0, "low": 2.0, "high": 4.0, "count": 5}
    assert percentile([1.0, 2.0], 95) == pytest.approx(1.95)
    assert percentile([7.0], 50) == 7.0


def test_the_machine_is_described_without_saying_whose_it_is() -> None:
    found: dict[str, Any] = asdict(describe_machine())
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["memory_bytes"] > 1 << 28
    assert found["versions"]["llama-cpp-python"]
    assert platform.node() not in json.dumps(found)
    devices = read_nvidia("NVIDIA H200, 143771, 570.1\nNVIDIA X, [N/A], 570.1\nerror\n")
    assert [(one.name, one.memory_bytes) for one in devices] == [
        ("NVIDIA H200", 143771 << 20),
        ("NVIDIA X", None),
    ]
