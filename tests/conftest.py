"""What holds for every test: no network but loopback, no token, no cache of the person's own."""

from __future__ import annotations

import gc
import itertools
import os
import re
import signal
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

LOOPBACK = ("127.", "::1", "localhost")
_NUMBERS = itertools.count()
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN")

# Started in the background or by nohup, tests ignore these, and so would the programs that they start.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler)

# Read once, when these libraries are imported, so it must stand before any test imports them.
os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_XET="1", TOKENIZERS_PARALLELISM="false")
for _name in TOKENS:
    os.environ.pop(_name, None)

# Processes that share the tests out must collect the same names. What a name copies from content may hold
# the clock (gzip) or an address in memory, and then they disagree, once in a while.
NAME_LENGTH = 160
UNFIT_FOR_A_NAME = re.compile(r"\\x[0-9a-f]{2}|\bat 0x[0-9a-f]+")


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    """Refuse a test, where it is collected, whose name is unfit."""
    made = yield
    items: list[pytest.Item] = made if isinstance(made, list) else []
    for item in items:
        if len(item.name) > NAME_LENGTH or UNFIT_FOR_A_NAME.search(item.name):
            what = f"{item.name[:NAME_LENGTH]}: a name made of content; give these parameters an id="
            raise pytest.Collector.CollectError(what)
    return made


# Thousands of tests are a million objects, which live to the end: no collection looks at them again.
gc.disable()


def pytest_collection_finish() -> None:
    """Keep what was collected out of the garbage collector's sight."""
    gc.collect()
    gc.freeze()
    gc.enable()


# How long an example takes says how busy the machine is.
settings.register_profile(
    "any machine", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


class NetworkTouchedError(AssertionError):
    """A test reached for the network."""


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave this machine."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(LOOPBACK):
            raise NetworkTouchedError(f"a test connects to {address}")
        connect(self, address)

    def guarded_look_up(host: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and not name.startswith(LOOPBACK):
            raise NetworkTouchedError(f"a test looks up {name}")
        return look_up(host, *rest, **more)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an empty home, so that no login and no cache of the person's own is seen.

    In a folder of their own: pytest looks at all that is in its folder each time it makes another.
    """
    home = tmp_path_factory.getbasetemp() / "homes" / str(next(_NUMBERS))
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HF_ENDPOINT", "HF_HUB_OFFLINE", *TOKENS):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def quick_disk(tmp_path: Path) -> Iterator[Path]:
    """Memory where there is some to write to: thousands of syncs would wait for a disk, and prove no more."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)
