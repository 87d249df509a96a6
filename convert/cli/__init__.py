"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

import gc
import os
import signal
import sys
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the `modelwright` command."""
    # A vocabulary is a million small objects, none of them garbage.
    gc.set_threshold(200_000)
    from convert.errors import Exit  # noqa: PLC0415

    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:  # not where nohup has it ignored
            signal.signal(number, _end)
    try:
        from convert.cli.app import run  # noqa: PLC0415 - other parts of the package do without click

        code = run()
    except KeyboardInterrupt as interrupt:  # while the frame itself was imported
        from convert.cli.failure import report  # noqa: PLC0415

        code = report(interrupt)
    if code == Exit.INTERRUPTED:
        # An interrupt that fell into exec(), which dataclasses are made by, is marked as unhandled for good,
        # and the interpreter would end by killing itself where 130 is promised. All is cleaned up by now.
        sys.stderr.flush()
        os._exit(code)
    gc.freeze()  # the end takes them all; looking for garbage first costs a tenth of a second
    return code


def _end(number: int, frame: FrameType | None) -> None:
    """End as Ctrl-C does: by default the process would end at once, and leave its temporary folders."""
    for each in ENDING:
        # `timeout` sends it twice, and so may a closing terminal: the second would break off the cleaning up.
        signal.signal(each, signal.SIG_IGN)
    signal.default_int_handler(number, frame)
