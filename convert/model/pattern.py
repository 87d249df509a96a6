"""The kind of each layer where layers differ, as configs list it."""

from collections.abc import Sequence
from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder

SLIDING, FULL, LINEAR = "sliding_attention", "full_attention", "linear_attention"
# Names that Transformers has given up for these.
OLDER = {"attention": FULL, "mamba": LINEAR}


def every(period: int, count: int, *, rest: str = SLIDING, last: str = FULL) -> tuple[str, ...]:
    """List kinds of which the last of each period differs."""
    return tuple(rest if (number + 1) % period else last for number in range(count))


def read_kinds(
    config: Config,
    default: Sequence[str],
    key: str = "layer_types",
    known: Sequence[str] = (SLIDING, FULL),
) -> tuple[str, ...]:
    """Read what each layer is; the default says how many there are."""
    kinds = config.values.get(key)
    if kinds is None:
        return tuple(default)
    if not isinstance(kinds, list) or len(kinds) != len(default):
        found = f"lists {len(kinds)} layers" if isinstance(kinds, list) else "is no list"
        raise Failure(
            f"{config.where}: {key} {found}, and the model has {len(default)}",
            "the file is damaged, or was edited; fetch it again",
        )
    kinds = [OLDER.get(kind, kind) if isinstance(kind, str) else kind for kind in kinds]
    if unknown := [kind for kind in kinds if kind not in known]:
        raise Failure(
            f"{config.where}: {key} names {str(unknown[0])[:40]!r}, which is not supported here",
            f"supported: {', '.join(known)}",
        )
    return tuple(kinds)


def with_windows(
    decoder: Decoder, kinds: Sequence[str], window: int, *, has_rope_beyond: bool = True
) -> Decoder:
    """Give the layers of one kind a window; the others may be without positions."""
    beyond = {} if has_rope_beyond else {"rope": None}
    layers = tuple(
        replace(layer, mixer=replace(layer.attention, **({"window": window} if kind == SLIDING else beyond)))
        for layer, kind in zip(decoder.layers, kinds, strict=True)
        if layer.attention
    )
    return replace(decoder, layers=layers)


def windowed(decoder: Decoder) -> list[bool]:
    """Tell of each layer whether it sees a window alone."""
    return [attention.window is not None for attention in decoder.attentions]


def window_period(decoder: Decoder) -> int | None:
    """Count the layers of which the last alone sees everything; None where there is no such period."""
    found = windowed(decoder)
    periods = (period for period in range(1, len(found) + 1) if found == _windowed(period, len(found)))
    return next(periods, None)


def _windowed(period: int, count: int) -> list[bool]:
    return [kind == SLIDING for kind in every(period, count)]


def window_keys(decoder: Decoder, period: int) -> dict[str, object]:
    """Write for llama.cpp which layers have windows, where that is not the pattern built into a graph."""
    found = windowed(decoder)
    is_own = found == _windowed(period, decoder.layer_count)
    return {"attention.sliding_window_pattern": found} if any(found) and not is_own else {}
