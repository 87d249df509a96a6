"""Servers that an artifact is judged in: a file's name in this folder, with hyphens, is the server's name.

A file describes one server as `SERVER`: how it is started for an artifact, when it is ready, how it is asked
and what it says of itself. `runtimes/served.py` starts it inside the worker's process group, on a port of
loopback, and talks to it as to any OpenAI-compatible server; it ends with the worker, whatever ends that.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import Failure, UsageFailure
from verify.runtimes.openai_http import OpenAiHttp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verify.runtimes import Info
    from verify.runtimes._events import Server as Api

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Start:
    """What a server is started for, and with."""

    path: Path  # the artifact's folder or file
    ports: tuple[int, ...]
    model: str  # a name that no other server's model has: who answers on the port is known by it
    context: int  # tokens of a request
    threads: int
    home: Path  # a folder for the files that the server needs
    program: str | None  # in place of the one on PATH, or of this Python
    slots: int  # requests that are answered at once
    top: int  # the likeliest tokens whose logprobs will be asked for

    @property
    def port(self) -> int:
        """Return the port that requests go to."""
        return self.ports[0]

    def python(self, module: str, hint: str) -> str:
        """Return a Python that has a module: the one that is named, this one, or a command's on PATH."""
        if self.program:
            return self.program
        if importlib.util.find_spec(module):
            return sys.executable
        command = shutil.which(module)
        found = Path(command).resolve().with_name("python") if command else None
        if found is None or not found.exists():
            raise Failure(f"no Python here has {module}", f"{hint}; or name one with --option program=PATH")
        return str(found)


def _nothing(_: Start) -> dict[str, str]:
    return {}


@dataclass(frozen=True)
class Server:
    """How a server is started, when it is ready, and how it is asked."""

    formats: tuple[str, ...]  # of manifests, which it opens
    # The first command is the server's; the others are what it works with.
    commands: Callable[[Start], Sequence[Sequence[str]]]
    hint: str  # how a person gets it
    environment: Callable[[Start], Mapping[str, str]] = _nothing
    port_count: int = 1
    base: str = "/v1"
    health: str = "/health"  # is answered with 200 once requests are
    # Commands that bring the model into a server that starts without one.
    load: Callable[[Start], Sequence[Sequence[str]]] = lambda _: ()
    listed: Callable[[Start], str] = lambda start: start.model  # as /models names the model
    is_parallel: bool = True  # answers as many requests at once as it has slots
    fills_gpu: bool = False  # takes most of a GPU when it starts, however small the model
    client: type[OpenAiHttp] = OpenAiHttp
    body: Mapping[str, Any] = field(default_factory=dict)  # sent with every request
    endless: Mapping[str, Any] = field(default_factory=lambda: {"ignore_eos": True})  # to the last token
    version: Callable[[Api], str | None] = lambda _: None
    # Adds what the server says of the model to what is known of any.
    describe: Callable[[Info, Start, Api], Info] = lambda info, _start, _api: info

    @property
    def slots(self) -> int:
        """Return how many requests it answers at once by default: a GPU's memory is shared out in pages."""
        return 16 if self.fills_gpu else 4


def find_server(name: str) -> Server:
    """Load the server of this name."""
    check_server(name)
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    server: Server = module.SERVER
    return server


def check_server(name: str) -> None:
    """Refuse a name that is no server's, without loading anything."""
    if name not in server_names():
        known = ", ".join(server_names())
        raise UsageFailure(f"there is no server called {name!r}", f"use one of: {known}")


def choose_server(_: str | Path, format_name: str | None, name: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the runtime that starts this server, if it opens artifacts of the format."""
    formats = find_server(name or "").formats
    if format_name is not None and format_name not in formats:
        raise Failure(f"{name} opens {' and '.join(formats)}, and this is {format_name}")
    return "served", ()


def server_names() -> tuple[str, ...]:
    """List every server there is."""
    names = (each.name.replace("_", "-") for each in pkgutil.iter_modules(__path__) if each.name[0] != "_")
    return tuple(sorted(names))
