"""What a child printed is there when it is asked for, however far the thread that reads it has come."""

from __future__ import annotations

import os
import threading

import pytest

from convert.child.output import KEPT_BYTES, Output


@pytest.fixture
def pipes() -> tuple[tuple[int, int], tuple[int, int]]:
    return os.pipe(), os.pipe()


def test_what_was_written_before_the_question_is_told(pipes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    (out, out_in), (err, err_in) = pipes
    is_held, go_on = threading.Event(), threading.Event()

    def hold(_: int) -> None:
        is_held.set()
        go_on.wait()

    output = Output(out, err, 0, hold)
    try:
        os.write(err_in, b"first\n")
        assert is_held.wait(60)  # now the thread reads no more
        os.write(err_in, b"last words\n")
        assert output.lines() == ("first", "last words")
        os.write(err_in, b"a sigh\n")
    finally:
        go_on.set()
        os.close(out_in)
        os.close(err_in)
        output.close()
    assert output.lines() == ("first", "last words", "a sigh")


def test_a_flood_is_kept_in_part_and_told_of(pipes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    (out, out_in), (err, err_in) = pipes
    floods: list[int] = []
    output = Output(out, err, 4 * KEPT_BYTES, floods.append)
    for _ in range(8):
        os.write(err_in, b"x" * (KEPT_BYTES - 1) + b"\n")
    os.write(err_in, b"the end\n")
    os.close(out_in)
    os.close(err_in)
    output.close()
    assert output.lines()[-1] == "the end"
    assert len(floods) == 1
    assert floods[0] > 4 * KEPT_BYTES
