"""Publishing to the registry on loopback: with few retries, in small chunks, and no secret shown."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from convert.errors import Failure
from convert.publish.destinations.oci import OciDestination
from convert.publish.oci.login import CONFIG_VARIABLE
from tests.destinations.bundles import QUICK, publish
from tests.destinations.registry_server import PASSWORD, TOKEN, USER

if TYPE_CHECKING:
    from convert.publish.bundle import Bundle
    from tests.destinations.registry_server import RegistryServer

REPO = "models/tiny-gguf"
CHUNK_BYTES = 40_000


def place_of(server: RegistryServer, chunk_bytes: int = CHUNK_BYTES) -> OciDestination:
    """The place on that server, with few retries and small chunks."""
    return OciDestination(server.host, "models", QUICK, chunk_bytes)


def log_in(monkeypatch: pytest.MonkeyPatch, host: str, password: str = PASSWORD) -> None:
    """As `oras login` would."""
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    monkeypatch.setenv(CONFIG_VARIABLE, json.dumps({"auths": {host: {"auth": auth}}}))


def refused(server: RegistryServer, bundle: Bundle) -> Failure:
    """The line with which a publication ends."""
    with pytest.raises(Failure) as caught:
        publish(place_of(server), bundle)
    message = caught.value.message + caught.value.hint
    assert "\n" not in message
    assert caught.value.hint
    for secret in (PASSWORD, TOKEN, base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()):
        assert secret not in message
    return caught.value


def outcome(place: OciDestination, bundle: Bundle) -> str | None:
    """The line with which a publication ends, if it does not succeed."""
    try:
        publish(place, bundle)
    except Failure as failure:
        return failure.message
    return None
