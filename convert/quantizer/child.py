"""The quantiser's side of the conversation: no network, no core files, and gone when the parent is."""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import resource
import shutil
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from convert.errors import Failure
from convert.quantizer.process import is_out_of_memory


def main(fd: int, engine: str, work: str) -> None:
    """Run an engine, `module:function`, on what lies in `work`, and tell on the pipe how it goes."""
    faulthandler.enable(all_threads=False)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    threading.Thread(target=_die_with_parent, args=(work,), daemon=True).start()
    sys.addaudithook(_stay_offline)
    lock = threading.Lock()

    def tell(message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with lock:
            while data:
                data = data[os.write(fd, data) :]

    try:
        module, _, function = engine.partition(":")
        run = getattr(importlib.import_module(module), function)
        ending = {"end": "done", "result": run(Path(work), tell)}
    except Failure as failure:
        ending = {"end": "refused", "reason": failure.message, "hint": failure.hint}
    except MemoryError:
        traceback.print_exc()
        ending = {"end": "memory", "reason": "it could not get the memory that it asked for"}
    except Exception as error:  # noqa: BLE001  (whatever the package raises is told to a person in one line)
        traceback.print_exc()
        reason = " ".join(str(error).split())
        kind = "memory" if is_out_of_memory(reason) else "error"
        ending = {"end": kind, "reason": f"{type(error).__name__}: {reason}"}
    tell(ending)
    sys.stdout.flush()
    sys.stderr.flush()
    # Natives and worker threads may crash while they are torn down; all has been said.
    os._exit(0 if ending["end"] == "done" else 1)


def _die_with_parent(work: str) -> None:
    """Nothing is ever written to stdin: it ends when the parent does, by whatever signal."""
    os.read(0, 1)
    shutil.rmtree(work, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _stay_offline(event: str, args: tuple[Any, ...]) -> None:
    """Refuse every connection: nothing here has anything to ask of a network."""
    is_look_up = event in ("socket.getaddrinfo", "socket.gethostbyname")
    is_call = event in ("socket.connect", "socket.sendto", "socket.sendmsg")
    if is_look_up or (is_call and args[0].family != socket.AF_UNIX):
        raise OSError("the quantiser has no network")
