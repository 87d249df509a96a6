"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

import os
import signal
import sys


def main() -> int:
    """The `modelwright` command."""
    from convert.errors import Exit  # noqa: PLC0415

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # not where nohup has it ignored
            # As Ctrl-C: by default the process would end at once, and leave its temporary folders.
            signal.signal(number, signal.default_int_handler)
    try:
        from convert.cli.frame import run  # noqa: PLC0415 - other parts of the package do without click

        code = run()
    except KeyboardInterrupt as interrupt:  # while the frame itself was imported
        from convert.cli.failure import report  # noqa: PLC0415

        code = report(interrupt)
    if code == Exit.INTERRUPTED:
        # An interrupt that fell into exec(), which dataclasses are made by, is marked as unhandled for good,
        # and the interpreter would end by killing itself where 130 is promised. All is cleaned up by now.
        sys.stderr.flush()
        os._exit(code)
    return code
