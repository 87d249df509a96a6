"""Find a registry's login, as `docker login`, `podman login` or `oras login` saved it, or ask its helper."""

import base64
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from convert.errors import Failure
from convert.publish.oci import helper

CONFIG_VARIABLE = "DOCKER_AUTH_CONFIG"  # the file's content itself, as build servers have it

# What a cloud's helper gives is good for an hour at times, and an upload may take longer.
FRESH_S = 600.0

# Docker's own registry goes by one name, answers under another, and is logged in to as a third.
_DOCKER_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
_DOCKER_HUB_LOGIN = "https://index.docker.io/v1/"


@dataclass(frozen=True)
class Login:
    """A name and a password, or a token in its place."""

    user: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """Return it as a header has it."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def remembered(host: str) -> Callable[[], Login | None]:
    """Return what looks up the login for a registry when it is needed, and again when it may have expired."""
    login, until_s = None, -math.inf

    def find() -> Login | None:
        nonlocal login, until_s
        if time.monotonic() > until_s:
            login, until_s = login_for(host), time.monotonic() + FRESH_S
        return login

    return find


# Each login is saved under its registry's name, so none is ever sent to another.
def login_for(host: str, environment: Mapping[str, str] | None = None) -> Login | None:
    """Look up the login for a registry, if there is one. A helper may take its time, and ask a person."""
    known = os.environ if environment is None else environment
    seen = []
    for config in _configs(known):
        saved = config.get("auths")
        found = (_decoded(saved.get(name)) for name in _names(host)) if isinstance(saved, dict) else ()
        if login := next(filter(None, found), None):
            return login
        seen.append(config)
    return next(filter(None, (_from_helper(config, host, known) for config in seen)), None)


def _from_helper(config: Mapping[str, Any], host: str, environment: Mapping[str, str]) -> Login | None:
    """Ask the registry's own helper, or else the one for all."""
    own, server = config.get("credHelpers"), _DOCKER_HUB_LOGIN if host in _DOCKER_HUB else host
    named = [own[name] for name in _names(host) if name in own] if isinstance(own, dict) else []
    name = named[0] if named else config.get("credsStore")
    login = helper.ask(name, server, environment) if name else None
    return Login(*login) if login else None


def answering_host(host: str) -> str:
    """Return where a registry of this name answers."""
    return "registry-1.docker.io" if host in _DOCKER_HUB else host


def _names(host: str) -> tuple[str, ...]:
    named = (host, f"https://{host}", f"https://{host}/", f"https://{host}/v1/", f"https://{host}/v2/")
    return (*named, _DOCKER_HUB_LOGIN) if host in _DOCKER_HUB else named


def _configs(environment: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Read every place where a login may be, the nearest first."""
    if environment.get(CONFIG_VARIABLE):
        yield _parsed(environment[CONFIG_VARIABLE], CONFIG_VARIABLE)
    home = Path(environment.get("HOME") or "~").expanduser()
    for path in (
        environment.get("REGISTRY_AUTH_FILE"),
        Path(environment.get("DOCKER_CONFIG") or home / ".docker") / "config.json",
        Path(environment.get("XDG_RUNTIME_DIR") or "/nowhere") / "containers" / "auth.json",
    ):
        if path:
            try:
                text = Path(path).read_text(encoding="utf-8")
            except FileNotFoundError:
                continue
            except (OSError, UnicodeDecodeError):
                raise Failure(f"{path}: cannot be read", "log in again: `docker login`") from None
            yield _parsed(text, str(path))


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):  # what it holds is shown to nobody
        raise Failure(f"{where}: not the configuration of docker or podman", "log in again: `docker login`")
    return content


def _decoded(entry: Any) -> Login | None:
    """Read a login as those files have it; None of one that a helper keeps."""
    if not isinstance(entry, dict):
        return None
    user, password = entry.get("username"), entry.get("password")
    if isinstance(user, str) and isinstance(password, str):
        return Login(user, password)
    try:
        text = base64.b64decode(str(entry.get("auth") or ""), validate=True).decode()
    except ValueError:
        return None
    user, colon, password = text.partition(":")
    return Login(user, password.rstrip("\0")) if colon else None
