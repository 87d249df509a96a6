"""A registry on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.destinations.registry_server import RegistryServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with RegistryServer() as running:
        yield running
