"""As a script: publish again and again, each time in a fork of its own that a test may have killed.

It is told `fork`, answers with the fork's process id, is told `go`, and answers with the fork's exit status.
It publishes a small bundle; or, where its first word is `command`, does what the others say to the program.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from convert.cli import app
from convert.progress import Silent
from convert.publish.destinations.hub import HubDestination
from convert.source import Hub, RetryLimits
from tests.publish.bundles import bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.publish.bundle import Bundle


def publish(hub: Hub, what: Bundle) -> int:
    """What the command does with what it has gathered."""
    with HubDestination(hub) as place:
        sent = place.send(what, place.survey(what), Silent())
        place.read_back(what, sent, Silent())
    return 0


def fork(act: Callable[[], int]) -> tuple[int, int]:
    """A child that waits for a byte, then acts; its process id, and where to write the byte."""
    ready, start = os.pipe()
    child = os.fork()
    if child:
        os.close(ready)
        return child, start
    os.close(start)
    os.read(ready, 1)
    os._exit(act())


def say(text: str) -> None:
    """Answer at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def serve(act: Callable[[], int]) -> None:
    """Act whenever told so, until told no more."""
    while sys.stdin.readline():
        child, start = fork(act)
        say(str(child))
        sys.stdin.readline()
        os.write(start, b"!")
        os.close(start)
        say(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))


def main(endpoint: str, token: str, settings: str, size_bytes: int) -> None:
    """Publish a bundle of that size."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        hub = Hub(endpoint, home / "hub", home / "notes", token=token, retry=RetryLimits(first_wait_s=0.01))
        what = bundle(home / "shelf", settings, size_bytes=size_bytes)
        serve(lambda: publish(hub, what))


if __name__ == "__main__":
    if sys.argv[1] == "command":
        serve(lambda: app.run(sys.argv[2:]))
    else:
        main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
