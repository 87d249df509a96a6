"""What a child printed is there when it is asked for, however far the thread that reads it has come."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

from convert.child import FaultKind, Limits, channel, pulse
from convert.child.channel import Channel
from convert.child.memory import descendants, usage
from convert.child.pulse import Pulse
from convert.child.watch import KEPT_BYTES, Watch

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def watch(output: int, limit_bytes: int, floods: list[str], hold: threading.Event | None = None) -> Watch:
    def on_excess(kind: FaultKind, reason: str) -> None:
        assert kind is FaultKind.FLOODED
        floods.append(reason)
        if hold:
            hold.wait()

    return Watch(os.getpid(), output, Limits(output_bytes=limit_bytes, memory_bytes=math.inf), on_excess)


def test_what_was_written_before_the_question_is_told() -> None:
    theirs, ours = os.pipe()
    floods: list[str] = []
    go_on = threading.Event()
    watched = watch(theirs, 0, floods, go_on)
    try:
        os.write(ours, b"first\n")
        while not floods:  # from here on, the thread reads no more
            threading.Event().wait(0.01)
        os.write(ours, b"last words\n")
        assert watched.lines() == ("first", "last words")
        os.write(ours, b"a sigh\n")
    finally:
        go_on.set()
        os.close(ours)
        watched.close()
    assert watched.lines() == ("first", "last words", "a sigh")


def test_a_flood_is_kept_in_part_and_told_of() -> None:
    theirs, ours = os.pipe()
    floods: list[str] = []
    watched = watch(theirs, 4 * KEPT_BYTES, floods)
    for _ in range(8):
        os.write(ours, b"x" * (KEPT_BYTES - 1) + b"\n")
    os.write(ours, b"the end\n")
    os.close(ours)
    watched.close()
    assert watched.lines()[-1] == "the end"
    assert len(watched.printed()) == KEPT_BYTES
    assert len(floods) == 1
    assert "262 kB are allowed" in floods[0]


def test_processes_that_end_while_they_are_looked_at_do_no_harm() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert descendants(child.pid) == ()
    assert usage(child.pid) is None


def test_time_in_which_the_parent_was_stopped_is_no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by SIGSTOP: the clock went on, and the child was stopped too."""
    ours, theirs = socket.socketpair()
    clock = iter(range(0, 6000, 60))
    monkeypatch.setattr(channel, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with ours, theirs:
        parent = Channel(ours, is_alive=lambda: True)
        parent.until_s = 1.0
        later = threading.Timer(3 * channel.POLL_S, lambda: Channel(theirs).send({"done": {}}))
        later.start()
        assert parent.receive() == ({"done": {}}, bytearray())
        later.join()
    assert parent.waited_s < 1.0


def test_a_pulse_tells_a_stop_from_the_want_of_a_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the minutes of a laptop that sleeps, too: a clock of our own goes on here."""
    now_s = [100.0]
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    heart, stat = Pulse(), tmp_path / "schedstat"
    heart._stat = stat

    def pass_by(seconds: float, starved_s: float) -> float:
        now_s[0] += seconds
        stat.write_text(f"5 {round(1e9 * starved_s)} 7\n")
        return heart.stopped_s()

    assert pass_by(0.03, 0.0) == 0.0
    heart.beat()
    assert pass_by(60.0, 60.0) == 0.0  # others had all processors
    heart.beat()
    assert pass_by(60.0, 61.0) == 59.0  # seen at once, whichever thread runs first
    heart.beat()
    assert pass_by(0.4, 61.0) == 59.0
    stat.unlink()  # no kernel has to count it
    assert pass_by(60.0, 61.0) >= 59.0
