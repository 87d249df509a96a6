"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""

import os
import sys


def main() -> int:
    """The `modelwright` command."""
    from convert.cli.frame import run  # noqa: PLC0415 - other parts of the package do without click
    from convert.errors import Exit  # noqa: PLC0415

    code = run()
    if code == Exit.INTERRUPTED:
        # An interrupt that fell into exec(), which dataclasses are made by, is marked as unhandled for good,
        # and the interpreter would end by killing itself where 130 is promised. All is cleaned up by now.
        sys.stderr.flush()
        os._exit(code)
    return code
