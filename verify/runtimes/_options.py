"""The options of a runtime: a table with the defaults, and the values that were asked for."""

import os
from collections.abc import Mapping
from typing import Any

from convert.errors import Failure
from verify.runtimes import RuntimeSettings

KINDS: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    dict: "an object, as in JSON",
    list: "a list, as in JSON",
}


def read_options(runtime: str, settings: RuntimeSettings, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value for each option of the table, and refuse an option or a value that it does not have.

    A tuple in the table lists the choices, the default first. Anything else is the default, and a value must
    be of its type; after None any text will do.
    """
    given = settings.options
    if unknown := sorted(set(given) - set(table)):
        known = f"it has {', '.join(sorted(table))}" if table else "it has none"
        raise Failure(f"{runtime}: no such option: {', '.join(unknown)}", known)
    defaults = {name: entry[0] if isinstance(entry, tuple) else entry for name, entry in table.items()}
    return defaults | {name: _read(runtime, name, value, table[name]) for name, value in given.items()}


def thread_count(settings: RuntimeSettings) -> int:
    """Return the number of threads to use: as asked for, else every core that this process may use."""
    return settings.threads or len(os.sched_getaffinity(0))


def _read(runtime: str, name: str, value: Any, entry: Any) -> Any:
    if isinstance(entry, tuple):
        choices = [choice for choice in entry if choice is not None]
        if value not in choices:
            raise Failure(f"{runtime}: {name} {value!r} is none of {', '.join(choices)}")
        return value
    kind = str if entry is None else type(entry)
    if kind is str:
        return str(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise Failure(f"{runtime}: {name} {value!r} is not {KINDS[kind]}")
    return value
