"""A runtime that does what is asked of it, however bad: the child's half of the worker's tests."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from verify.runtimes import Info, Piece, Request, RuntimeSettings, Tick

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CAN = ("tokenize", "detokenize", "template", "logits", "generate", "together", "cache")


def suits(_: Path) -> bool:
    return False


def preload() -> dict[str, str]:
    return {"bad": "1"}


def open_runtime(path: str, settings: RuntimeSettings) -> BadRuntime:
    how = settings.options.get("at_open")
    if how:
        BAD[how]()
    return BadRuntime(path, settings)


class BadRuntime:
    """Tokens are characters, answers count upwards, and tokenizing the name of a misdeed does it."""

    def __init__(self, path: str, settings: RuntimeSettings) -> None:
        self.info = Info(
            "bad", CAN, settings.context, vocab_size=128, chat_template="x", notes={"path": path}
        )

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        del special
        if text in BAD:
            BAD[text]()
        return [0] * add_bos + [ord(one) for one in text]

    def detokenize(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def template(self, messages: Sequence[Any], *, add_generation_prompt: bool) -> str:
        while messages[0]["content"] == "loop":
            pass
        return " ".join(message["content"] for message in messages) + ">" * add_generation_prompt

    def logits(self, ids: Sequence[int], first: int = 0) -> Generator[NDArray[np.float32], None, None]:
        width = 1 << 20 if ids[0] else 4
        for number in ids[first:]:
            yield np.full((3, width), number, np.float32)
            if number == 13:
                BAD["crash"]()

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        start = time.perf_counter()
        for number in range(request.max_tokens):
            yield Piece(number, f"{number} ", time.perf_counter() - start, None)
            if request.stop == ("hang",) and number == 3:
                BAD["hang"]()

    def together(self, requests: Sequence[Request]) -> Generator[Tick, None, None]:
        for index, request in enumerate(requests):
            assert request.ids
            yield Tick(index, 0.1 + index)

    def cache_bytes(self) -> int:
        return len(os.environ)

    def close(self) -> None:
        pass


def the_socket() -> socket.socket:
    """The protocol's end, found as a native with a bug might hit it."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  (numbers, not paths)
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):  # noqa: PTH115
                return socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
    raise AssertionError


def crash() -> None:
    print("about to read address 0", file=sys.stderr, flush=True)
    ctypes.string_at(0)


def hang() -> None:
    print("going to sleep", file=sys.stderr, flush=True)
    time.sleep(1000)


def hang_in_native_code() -> None:
    # Holds the interpreter's lock, so that no Python of the child can end it.
    ctypes.PyDLL(None).sleep(1000)


def eat_memory() -> None:
    kept = []
    while True:
        kept.append(np.ones(8 << 20, np.uint8))
        time.sleep(0.001)


def eat_memory_in_a_child() -> None:
    if os.fork() == 0:
        eat_memory()
    time.sleep(1000)


def ask_too_much() -> None:
    np.ones(1 << 42, np.uint8)


def flood(fd: int) -> None:
    line = b"noise " * 1000 + b"\n"
    while True:
        os.write(fd, line)


def chatter() -> None:
    """Much output on both pipes, under the limit: nothing may block."""
    for number in range(2000):
        os.write(1, b"o" * 999 + b"\n")
        os.write(2, f"line {number} ".encode() + b"e" * 900 + b"\n")


def fork_and_hold() -> None:
    if os.fork() == 0:
        time.sleep(1000)
    os._exit(0)


def leave_the_group() -> None:
    """A grandchild in a session of its own, with the socket and the pipes in hand."""
    subprocess.Popen(["sleep", "1000"], start_new_session=True, close_fds=False)
    os._exit(7)


def garbage() -> None:
    the_socket().sendall(b"Segmentation fault, or so\n" * 100)
    time.sleep(1000)


def endless_frame() -> None:
    the_socket().sendall(b"MWv1" + b"\xff" * 12)
    time.sleep(1000)


def wrong_json() -> None:
    the_socket().sendall(b"MWv1" + (2).to_bytes(4, "little") + (0).to_bytes(8, "little") + b"[]")
    time.sleep(1000)


def wrong_answer() -> None:
    body = b'{"done": {"id": "none"}}'
    the_socket().sendall(b"MWv1" + len(body).to_bytes(4, "little") + (0).to_bytes(8, "little") + body)
    time.sleep(1000)


def hang_up() -> None:
    for name in range(3, 64):
        try:
            os.close(name)
        except OSError:
            continue
    time.sleep(1000)


def refuse() -> None:
    raise Failure("this I will not read")


def raise_something() -> None:
    raise RuntimeError("a bug\nin two lines")


def kill_itself() -> None:
    os.kill(os.getpid(), 9)


BAD: dict[str, Callable[[], None]] = {
    "crash": crash,
    "abort": os.abort,
    "hang": hang,
    "hang in native code": hang_in_native_code,
    "eat memory": eat_memory,
    "eat memory in a child": eat_memory_in_a_child,
    "ask too much": ask_too_much,
    "flood stdout": lambda: flood(1),
    "flood stderr": lambda: flood(2),
    "chatter": chatter,
    "fork and hold": fork_and_hold,
    "leave the group": leave_the_group,
    "exit 0": lambda: os._exit(0),
    "exit 3": lambda: os._exit(3),
    "sys.exit": sys.exit,
    "garbage": garbage,
    "endless frame": endless_frame,
    "wrong json": wrong_json,
    "wrong answer": wrong_answer,
    "hang up": hang_up,
    "refuse": refuse,
    "raise": raise_something,
    "killed": kill_itself,
}
