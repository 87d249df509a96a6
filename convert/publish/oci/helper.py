"""Docker's credential helpers: programs that the person's own configuration names, and that keep a login.

`docker-credential-NAME get` reads a registry's name and answers `{"Username": …, "Secret": …}`. What it says
is told to nobody, not even where it is wrong.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# It becomes part of a program's name: no path, no option.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Some ask a person first, or a cloud.
WAIT_S = 60.0
_GLANCE_S = 0.05  # between two looks whether it has ended
_LARGEST_BYTES = 64 << 10
# What helpers say, by their own protocol, of a registry that nobody is logged in to.
_UNKNOWN = b"credentials not found"
# What they say in a name's place when the secret is no password.
_IS_TOKEN = "<token>"  # noqa: S105 - a mark, and no secret
# A helper has no use for the Hub's token, nor for other registries' logins.
_NOT_THEIRS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "DOCKER_AUTH_CONFIG")


def ask(
    name: object, server: str, environment: Mapping[str, str], *, wait_s: float = WAIT_S
) -> tuple[str, str] | None:
    """The user and the password that a helper keeps for a server; None where it has none."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _broken("the configuration names a credential helper by what is no name", server)
    program = shutil.which(f"docker-credential-{name}", path=environment.get("PATH", os.defpath))
    if program is None:
        raise _broken(f"docker-credential-{name}, which keeps its login, is not installed", server)
    try:
        said, status = _run(program, server, environment, wait_s)
    except OSError as error:
        raise _broken(f"docker-credential-{name} cannot be run ({error.strerror})", server) from None
    if status is None:
        raise _broken(f"docker-credential-{name} did not answer in {wait_s:.0f} s", server)
    if status != 0 and said.startswith(_UNKNOWN):
        return None
    try:
        content: Any = json.loads(said) if status == 0 else None
        user, secret = content["Username"], content["Secret"]
    except (ValueError, TypeError, KeyError, RecursionError):
        user = secret = None
    if not isinstance(user, str) or not isinstance(secret, str):
        raise _broken(f"docker-credential-{name} gave no login", server)
    if user == _IS_TOKEN:
        raise _broken(f"docker-credential-{name} keeps a token in place of a password", server)
    return (user, secret) if secret else None


def _run(
    program: str, server: str, environment: Mapping[str, str], wait_s: float
) -> tuple[bytes, int | None]:
    """What it says, up to a limit, and its exit status; None of one that does not end."""
    own = {key: value for key, value in environment.items() if key not in _NOT_THEIRS}
    deadline_s = time.monotonic() + wait_s
    with _started(program, own) as (child, to, out):
        with suppress(BrokenPipeError):  # it may know without reading
            to.write(server.encode())
            to.close()
        said = _read(child, out, deadline_s)
        if len(said) > _LARGEST_BYTES:
            return b"", 1
        try:
            return said, child.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            return b"", None


def _read(child: subprocess.Popen[bytes], out: IO[bytes], deadline_s: float) -> bytes:
    """What comes until the end, the limit or the deadline, whichever is first.

    An agent that the helper has started may hold the pipe open: the helper's own end is the end, too.
    """
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(out, selectors.EVENT_READ)
        while len(said) <= _LARGEST_BYTES:
            left_s = deadline_s - time.monotonic()
            is_over = left_s <= 0 or child.poll() is not None
            if selector.select(0.0 if is_over else min(left_s, _GLANCE_S)):
                block = os.read(out.fileno(), _LARGEST_BYTES)
                if not block:
                    break
                said += block
            elif is_over:
                break
    return said


@contextmanager
def _started(
    program: str, environment: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    """The helper and its two ends, in our own group, for it may ask a person; gone when this ends."""
    with subprocess.Popen(  # noqa: S603 - a program by the person's own configuration; no shell
        [program, "get"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environment),
        bufsize=0,
    ) as child:
        try:
            if child.stdin is None or child.stdout is None:
                raise ValueError("a pipe was asked for")
            yield child, child.stdin, child.stdout
        finally:
            child.kill()


def _broken(what: str, server: str) -> Failure:
    return Failure(
        f"{server}: {what}", f"`docker login {server}` anew, or give its login in DOCKER_AUTH_CONFIG"
    )
