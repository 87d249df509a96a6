"""The command line: parse, call, print. Nothing heavy is imported before a command needs it."""


def main() -> int:
    """The `modelwright` command."""
    from convert.cli.frame import run  # noqa: PLC0415 - other parts of the package do without click

    return run()
