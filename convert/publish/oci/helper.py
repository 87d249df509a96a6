"""Docker's credential helpers: `docker-credential-NAME get` reads a registry's name and answers a login."""

import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from typing import Any

from convert.child import FaultKind, Limits, run
from convert.errors import Failure

# It becomes part of a program's name: no path, no option.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Some ask a person first, or a cloud.
WAIT_S = 60.0
_LARGEST_BYTES = 1 << 20
# What helpers say, by their own protocol, of a registry that nobody is logged in to.
_UNKNOWN = b"credentials not found"
# What they say in a name's place when the secret is no password.
_IS_TOKEN = "<token>"  # noqa: S105 - a mark, and no secret
_NOT_THEIRS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "DOCKER_AUTH_CONFIG")


def ask(
    name: object, server: str, environment: Mapping[str, str], *, wait_s: float = WAIT_S
) -> tuple[str, str] | None:
    """Ask a helper for the user and the password of a server; None where it has none."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _broken("the configuration names a credential helper that can have no such name", server)
    program = shutil.which(f"docker-credential-{name}", path=environment.get("PATH", os.defpath))
    if program is None:
        raise _broken(f"docker-credential-{name}, which keeps its login, is not installed", server)
    # A helper has no use for the Hub's token, nor for other registries' logins.
    own = {key: value for key, value in environment.items() if key not in _NOT_THEIRS}
    limits = Limits(total_s=wait_s, memory_bytes=math.inf, output_bytes=_LARGEST_BYTES)
    try:
        said, fault = run((program, "get"), limits, own, stdin=server.encode())
    except OSError as error:
        raise _broken(f"docker-credential-{name} cannot be run ({error.strerror})", server) from None
    if fault and fault.kind is FaultKind.HUNG:
        raise _broken(f"docker-credential-{name} did not answer in {wait_s:.0f} s", server)
    if fault and said.startswith(_UNKNOWN):
        return None
    try:
        content: Any = None if fault else json.loads(said)
        user, secret = content["Username"], content["Secret"]
    except (ValueError, TypeError, KeyError, RecursionError):
        user = secret = None
    if not isinstance(user, str) or not isinstance(secret, str):
        raise _broken(f"docker-credential-{name} gave no login", server)
    if user == _IS_TOKEN:
        raise _broken(f"docker-credential-{name} keeps a token instead of a password", server)
    return (user, secret) if secret else None


def _broken(what: str, server: str) -> Failure:
    # What a helper says is never shown, not even where it is wrong.
    return Failure(
        f"{server}: {what}", f"`docker login {server}` again, or give its login in DOCKER_AUTH_CONFIG"
    )
