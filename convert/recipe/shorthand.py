"""Targets in short: gguf:Q4_K_M,onnx is what a command line says in place of a recipe's `targets:`."""

from collections.abc import Iterable, Mapping
from typing import Any

from convert.errors import UsageFailure
from convert.recipe.explain import did_you_mean
from convert.recipe.strict import TargetOptions


def read_targets(text: str, formats: Mapping[str, type[TargetOptions]]) -> dict[str, dict[str, Any]]:
    """Read FORMAT[:VALUE], several with commas between; values of one format are put together."""
    found: dict[str, dict[str, Any]] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, _, word = part.partition(":")
        name = name.lower()
        if name not in formats:
            listed = f"the formats are {', '.join(formats)}; write e.g. gguf:Q4_K_M,onnx"
            raise UsageFailure(f"{part}: there is no format {name}", did_you_mean(name, formats, listed))
        short = formats[name].short
        options = found.setdefault(name, {})
        value = word or (short.default if short else "")
        if not value:
            continue
        if short is None:
            raise UsageFailure(f"{part}: {name} takes no value", f"write {name}")
        typed: Any = int(value) if value.isdigit() else value
        if (key := short.key_of(value)) != short.key:
            options[key] = value
        elif short.is_list:
            given = options.setdefault(short.key, [])
            given += [typed] if typed not in given else []
        elif options.setdefault(short.key, typed) != typed:
            raise UsageFailure(f"{part}: {name} is asked for twice", "one recipe builds one of them")
    if not found:
        raise UsageFailure(f"{text!r} names no format", "write e.g. gguf:Q4_K_M,onnx")
    return found


def parted(target: str, formats: Iterable[str]) -> tuple[str, str]:
    """Part an artifact's name in its format's and the rest: gguf and Q4_K_M."""
    found = [name for name in formats if target == name or target.startswith(f"{name}-")]
    name = max(found, key=len, default=target.partition("-")[0])
    return name, target[len(name) + 1 :]


def spell(target: str, formats: Mapping[str, type[TargetOptions]]) -> str:
    """Write one artifact's name as such a text: gguf-Q4_K_M is gguf:Q4_K_M."""
    name, rest = parted(target, formats)
    short = formats[name].short if name in formats else None
    word = rest.partition("-")[0] if short and short.is_list else ""
    return f"{name}:{word}" if word else name
