"""Learn from text, layer by layer, what each matrix's columns matter, and can do for each other's rounding.

All formats share what is learned. It is kept in files, a layer each, until the artifacts are built: a pass
that was killed goes on with the layer that it was in.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from convert.device import CPU, find_device, on_host
from convert.learning.batch import batches
from convert.learning.hessian import Inputs, Tally, is_rounded
from convert.learning.layer_file import Learned, read_layer, write_layer
from convert.model.forward import Forward
from convert.model.forward.blas import single_threaded
from convert.model.forward.spill import states
from convert.rounding import Factor, factorize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from convert.calibration import Windows
    from convert.device import Device
    from convert.model.decoder import Decoder, Ref
    from convert.model.forward.spill import States
    from convert.model.source import Weights

# Part of the key of what is kept: raise it when the same text gives other factors.
REVISION = 4
# Share of the Hessian's mean diagonal that is added to it.
DAMP = 0.01
# What goes into a layer is written for a pass that is killed as often: what would have to be done again.
SAVE_S = 20.0


@dataclass(frozen=True)
class Lessons:
    """What was learned of each matrix, and from which text."""

    factors: Mapping[Ref, Factor] = field(repr=False)
    damp: float  # as it was asked for; a factor says if it took more
    unseen: tuple[Ref, ...]  # matrices that no token reached
    record: Mapping[str, str | int]  # of the windows
    scarce: tuple[Ref, ...] = ()  # of experts that fewer tokens reached than they have columns


def learn(
    decoder: Decoder,
    weights: Weights,
    windows: Windows,
    folder: Path,
    *,
    damp: float = DAMP,
    advance: Callable[[int], None] = lambda _bytes: None,
    threads: int | None = None,
) -> Lessons:
    """Run the windows through the model, and factor the Hessian of what goes into each matrix."""
    device = find_device(windows.device)
    place = _place(folder, windows, damp, device)
    learned = _walked(decoder, weights, windows, place, device, damp=damp, advance=advance, threads=threads)
    return _lessons(learned, windows, damp, device)


def learn_squares(
    decoder: Decoder,
    weights: Weights,
    windows: Windows,
    folder: Path,
    *,
    advance: Callable[[int], None] = lambda _bytes: None,
    threads: int | None = None,
) -> Sequence[Learned]:
    """Take the squares that were learned along with Hessians, or run the windows through for them alone."""
    device = find_device(windows.device)
    alone = _place(folder, windows, None, device)
    others = sorted(folder.glob(f"{alone.name}-*"))
    place = next((each for each in others if _layers_done(each) == decoder.layer_count), alone)
    return _walked(decoder, weights, windows, place, device, damp=None, advance=advance, threads=threads)


def _walked(
    decoder: Decoder,
    weights: Weights,
    windows: Windows,
    place: Path,
    device: Device,
    *,
    damp: float | None,
    advance: Callable[[int], None],
    threads: int | None,
) -> Sequence[Learned]:
    """Go on with the layer after the last that is there, and read all; without `damp`, no Hessians."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / "turn").open("w") as turn:  # another conversion may be learning the same
        fcntl.flock(turn, fcntl.LOCK_EX)
        _walk(decoder, weights, windows, place, device, damp=damp, advance=advance, threads=threads)
    return [each for layer in range(decoder.layer_count) for each in read_layer(_layer_path(place, layer))]


def _walk(
    decoder: Decoder,
    weights: Weights,
    windows: Windows,
    place: Path,
    device: Device,
    *,
    damp: float | None,
    advance: Callable[[int], None],
    threads: int | None,
) -> None:
    forward = Forward(decoder, weights.checkpoint, weights.origins, threads, device)
    parts = list(batches(windows))
    shapes = [(*part.shape, decoder.hidden_size) for part in parts]
    saved_s = time.monotonic()
    layer_bytes = 4 * decoder.hidden_size * windows.token_count
    first = _first_layer(place, decoder.layer_count)
    advance(first * layer_bytes)
    if first < decoder.layer_count:
        with states(shapes, place, device.states_bytes) as hidden, device.strict():
            _load(place, first, shapes, hidden)
            for layer in range(first, decoder.layer_count):
                tally = Tally(forward.pool, has_hessians=damp is not None)
                for index, part in enumerate(parts):
                    before = hidden.load(index) if layer else forward.embed(part)
                    after = forward.layer(layer, before, tally.observe)
                    hidden.store(index, after)
                    if layer == decoder.layer_count - 1:
                        tally.observe((forward.head,), forward.last(after))
                    advance(after.nbytes)
                learned = [_factored(each, damp, place.name, forward) for each in tally.inputs.values()]
                if layer < decoder.layer_count - 1 and time.monotonic() - saved_s >= SAVE_S:
                    _save(place, layer, (hidden.load(index) for index in range(len(parts))))
                    saved_s = time.monotonic()
                write_layer(_layer_path(place, layer), learned)
                if _states_path(place, layer).is_file():
                    _forget_before(place, layer)
        _forget_before(place, decoder.layer_count)


def _lessons(learned: Sequence[Learned], windows: Windows, damp: float, device: Device) -> Lessons:
    found = [replace(each, refs=tuple(filter(is_rounded, each.refs))) for each in learned]
    factors = {
        ref: replace(each.factor, device=windows.device) for each in found if each.factor for ref in each.refs
    }
    unseen = tuple(ref for each in found if each.factor is None for ref in each.refs)
    experts = [each for each in found if each.refs and each.refs[0].expert is not None]
    scarce = tuple(
        ref for each in experts if each.factor and each.token_count < each.factor.columns for ref in each.refs
    )
    counts = [each.token_count for each in experts]
    record = dict(windows.record())
    if device is not CPU:
        record["device"] = device.name
    if counts:  # of an expert that was chosen least, and of one in the middle
        record |= {"expert_tokens_least": min(counts), "expert_tokens_median": int(np.median(counts))}
    return Lessons(factors, damp, unseen, record, scarce)


def _factored(inputs: Inputs, damp: float | None, key: str, forward: Forward) -> Learned:
    """Factor the Hessian of one group of matrices, part by part; its memory is given back."""
    learned = Learned(inputs.refs, inputs.token_count, on_host(inputs.squares).astype(np.float32), None)
    if damp is None or not inputs.hessians:
        return learned
    found = []
    first = 0
    with single_threaded():
        while inputs.hessians:
            hessian = inputs.hessians.pop(0)
            one = factorize(hessian, damp, forward.pool, first)
            found.append(one and (one[0].on_host(), one[1]))
            first += len(hessian)
    parts = [each for each in found if each is not None]
    if len(parts) < len(found):
        return learned
    ref = inputs.refs[0]
    name = f"{key} {ref.role} {ref.layer} {ref.expert}"
    factor = Factor(name, max(damp for _, damp in parts), tuple(part for part, _ in parts))
    return replace(learned, factor=factor)


def _place(folder: Path, windows: Windows, damp: float | None, device: Device) -> Path:
    """Tell apart what is learned of one source: by the text, and how."""
    where = [] if device is CPU else [device.name]
    asked = json.dumps([REVISION, windows.digest, np.__version__, *where])
    name = hashlib.sha256(asked.encode()).hexdigest()[:24]
    return folder / (name if damp is None else f"{name}-{damp!r}")


def _layer_path(place: Path, layer: int) -> Path:
    return place / f"layer-{layer:05}"


def _states_path(place: Path, layer: int) -> Path:
    return place / f"states-{layer:05}"


def _layers_done(place: Path) -> int:
    """Count the layers of which all is kept."""
    done = 0
    while _layer_path(place, done).is_file():
        done += 1
    return done


def _first_layer(place: Path, layer_count: int) -> int:
    """Find the layer to go on with: the one whose inputs were kept, or the first; all where none is left."""
    done = _layers_done(place)
    if done == layer_count:
        return done
    return next((layer for layer in range(done, 0, -1) if _states_path(place, layer - 1).is_file()), 0)


def _forget_before(place: Path, layer: int) -> None:
    """Remove what earlier layers left."""
    for path in place.glob("states-*"):
        if path != _states_path(place, layer):
            path.unlink()


def _save(place: Path, layer: int, found: Iterable[NDArray[np.float32]]) -> None:
    path = _states_path(place, layer)
    part = path.with_name(f"{path.name}.part")
    with part.open("wb") as file:
        for batch in found:
            file.write(np.ascontiguousarray(on_host(batch)).data)
    part.replace(path)


def _load(place: Path, layer: int, shapes: Sequence[tuple[int, ...]], hidden: States) -> None:
    """Go on with what the layer before left."""
    if not layer:
        return
    with _states_path(place, layer - 1).open("rb") as file:
        for index, shape in enumerate(shapes):
            values = np.fromfile(file, np.float32, int(np.prod(shape)))
            hidden.store(index, values.reshape(shape))
