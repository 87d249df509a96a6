"""A server of `verify/servers`, started here for an artifact and asked over HTTP; it ends with this process.

It belongs to the worker's process group and carries its mark, so that it has the worker's limits of time and
memory, and nothing that it starts outlives the worker. Options: ``server`` (its name), ``program`` (its
executable, or the Python that has it), ``args`` (added to its command), ``slots`` (how many requests it
answers at once where that is set at its start), ``top`` (the likeliest tokens to ask logprobs of),
``timeout_s`` and ``body`` (as for ``openai_http``).
"""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.child import ChildFailure, Fault, FaultKind
from convert.child.process import BY_SIGNAL
from convert.errors import Failure
from verify.runtimes import RuntimeSettings
from verify.runtimes._events import Server as Api
from verify.runtimes._options import read_options, thread_count
from verify.runtimes._tokenizer import read_object
from verify.servers import HOST, Server, Start, find_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verify.runtimes.openai_http import OpenAiHttp

FORMATS = ()  # each server has its own
OPTIONS: dict[str, Any] = {
    "server": None,
    "program": None,
    "args": [],
    "slots": 0,  # as many as suit the server
    "top": 64,
    "timeout_s": 300.0,
    "body": {},
}
GLANCE_S = 0.05
GRACE_S = 0.5
ANSWER_S = 5.0


def suits(_: Path) -> bool:
    """Return False: a server is asked for by name."""
    return False


def preload() -> dict[str, str]:
    """Return no versions: the server says its own."""
    return {}


def open_runtime(path: str, settings: RuntimeSettings) -> OpenAiHttp:
    """Start the server, and wait until it answers for this model."""
    options = read_options("served", settings, OPTIONS)
    if options["server"] is None:
        raise Failure("served: no server is named", "name one with --serve, or in verify.serve")
    server = find_server(options["server"])
    start = Start(
        path=Path(path),
        ports=free_ports(server.port_count),
        model=f"modelwright-{secrets.token_hex(4)}",
        context=_context(Path(path), settings),
        threads=thread_count(settings),
        home=Path.cwd(),  # the worker's own, which goes with it
        program=options["program"],
        slots=options["slots"] or server.slots,
        top=options["top"],
    )
    programs = Programs(options["server"], server, start, options["args"])
    programs.wait()
    url = f"http://{HOST}:{start.port}{server.base}"
    asked = {
        "model": programs.model(),
        "timeout_s": options["timeout_s"],
        "body": {**server.body, **options["body"]},
        "endless": dict(server.endless),
        "seats": start.slots if server.is_parallel else 1,
    }
    client = server.client(url, RuntimeSettings(start.context, settings.threads, asked), programs.blame)
    notes = {"server": options["server"], "version": server.version(programs.api) or "unknown"}
    known = replace(client.info, runtime=options["server"].replace("-", "_"), notes=notes)
    client.info = server.describe(known, start, programs.api)
    return client


def _context(path: Path, settings: RuntimeSettings) -> int:
    """Ask for no more than the model was made for: some servers refuse to start with more."""
    config = read_object(path / "config.json")
    inner = config.get("text_config", config)
    made_for = (
        inner.get("max_position_embeddings", inner.get("n_positions")) if isinstance(inner, dict) else None
    )
    return min(settings.context, made_for) if isinstance(made_for, int) and made_for > 0 else settings.context


def free_ports(count: int) -> tuple[int, ...]:
    """Find ports of loopback that nothing listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return tuple(each.getsockname()[1] for each in sockets)


class Programs:
    """The processes of one server, from their start to the first answer."""

    def __init__(self, name: str, server: Server, start: Start, args: Sequence[str]) -> None:
        self.api = Api(f"http://{HOST}:{start.port}", ANSWER_S)
        self._name, self._server, self._start = name, server, start
        first, *others = server.commands(start)
        self._environment = {**os.environ, **server.environment(start)}
        self._running = [self._popen(command) for command in ([*first, *map(str, args)], *others)]

    def wait(self) -> None:
        """Wait until the server is ready and has the model; the worker's own limit ends this."""
        self._wait_for(self._server.health)
        for step in self._server.load(self._start):
            loading = self._popen(step)
            while loading.poll() is None:
                self.check()
                time.sleep(GLANCE_S)
            if loading.returncode:
                raise Failure(f"{self._name}: {Path(step[0]).name} {step[1]} exits with {loading.returncode}")
        while self.model() is None:
            self.check()
            time.sleep(GLANCE_S)

    def model(self) -> str | None:
        """Return the model's name as the server lists it; None where it lists none of this name.

        The name is made for this start, so another server on the port is not taken for ours.
        """
        wanted = self._server.listed(self._start)
        try:
            listing = self.api.get(f"{self._server.base}/models")
        except ChildFailure:
            raise
        except Failure:
            return None
        data = listing.get("data") if isinstance(listing, dict) else None
        names = [each.get("id") for each in data or () if isinstance(each, dict)]
        return wanted if wanted in names else None

    def end(self) -> None:
        """Kill the processes; where a worker has started them, its end does it."""
        for process in self._running:
            process.kill()
            process.wait()

    def check(self) -> None:
        """Raise why the server has ended, if one of its processes has."""
        for process in self._running:
            code = process.poll()
            if code is not None:
                raise ChildFailure(Fault(*_cause(self._name, code), code=code))

    def blame(self) -> None:
        """Raise why the server has ended, where a request failed because of that."""
        until_s = time.monotonic() + GRACE_S  # the connection breaks before the process is gone
        while time.monotonic() < until_s:
            self.check()
            time.sleep(GLANCE_S)

    def _wait_for(self, path: str) -> None:
        while True:
            self.check()
            connection = http.client.HTTPConnection(HOST, self._start.port, timeout=ANSWER_S)
            try:
                connection.request("GET", path)
                if connection.getresponse().status == http.client.OK:
                    return
            except (OSError, http.client.HTTPException):  # it does not listen yet
                pass
            finally:
                connection.close()
            time.sleep(GLANCE_S)

    def _popen(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        program = shutil.which(command[0])
        if program is None:
            raise Failure(f"{self._name}: no program {command[0]} on PATH", self._server.hint)
        # Its output goes where ours does: the worker keeps the end of it for failed checks.
        return subprocess.Popen(  # noqa: S603 (no shell; the command is the server's file's)
            [program, *command[1:]], env=self._environment, stdin=subprocess.DEVNULL, cwd=self._start.home
        )


def _cause(name: str, code: int) -> tuple[FaultKind, str]:
    if code >= 0:
        return FaultKind.EXITED, f"{name} exited with code {code}"
    by = signal.Signals(-code)
    return FaultKind.CRASHED, f"{name} ended: {BY_SIGNAL.get(by, f'it was ended by {by.name}')}"
