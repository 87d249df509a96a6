"""As a script: publish a bundle again and again, each time in a fork of its own that a test may have killed.

It is told `fork`, answers with the fork's process id, is told `go`, and answers with the fork's exit status.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from convert.progress import Silent
from convert.publish.hub import HubPlace
from convert.publish.session import signed_in
from convert.source import Hub, Patience
from tests.publish.bundles import bundle

if TYPE_CHECKING:
    from convert.publish.bundle import Bundle


def publish(hub: Hub, what: Bundle) -> None:
    """What the command does."""
    with signed_in(hub) as session:
        place = HubPlace(session)
        sent = place.send(what, place.describe(what), Silent())
        place.read_back(what, sent, Silent())


def fork(hub: Hub, what: Bundle) -> tuple[int, int]:
    """A child that waits for a byte, then publishes; its process id, and where to write the byte."""
    ready, start = os.pipe()
    child = os.fork()
    if child:
        os.close(ready)
        return child, start
    os.close(start)
    os.read(ready, 1)
    publish(hub, what)
    os._exit(0)


def say(text: str) -> None:
    """Answer at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(endpoint: str, token: str, settings: str, size_bytes: int) -> None:
    """Serve until told no more."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        hub = Hub(endpoint, home / "hub", home / "notes", token=token, patience=Patience(first_wait_s=0.01))
        what = bundle(home / "shelf", settings, size_bytes=size_bytes)
        while sys.stdin.readline():
            child, start = fork(hub, what)
            say(str(child))
            sys.stdin.readline()
            os.write(start, b"!")
            os.close(start)
            say(str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
