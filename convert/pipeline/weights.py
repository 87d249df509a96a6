"""The weights of a run: opened, bound to the decoder's roles, and read once for all files that want them."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from convert.checkpoint import open_checkpoint
from convert.model.binding import bind
from convert.model.config import read_config
from convert.model.families import family
from convert.model.forward.blas import single_threaded
from convert.model.further import bind_next_layers
from convert.model.source import Weights
from convert.pipeline.adapter import merge
from convert.pipeline.parts import name_parts
from convert.pipeline.run import Run
from convert.pipeline.tied import require_tied
from convert.pipeline.transform import seen_tensors, transformed
from convert.source import is_legal
from convert.version import changed_code, version
from convert.writer import engine
from convert.writer.codecs.lanes.prepare import preparing
from convert.writer.layout import weights as weights_of
from convert.writer.share import WHOLE, Part


@contextmanager
def opened(run: Run) -> Iterator[tuple[Run, Weights]]:
    """Open the checkpoint, find every role in it, and return the run with what the headers say."""
    with merge(open_checkpoint(run.files.folder, run.absent), run) as checkpoint:
        binding = bind(run.model.decoder, run.family.naming, seen_tensors(checkpoint, run))
        require_tied(checkpoint, read_config(run.files.folder), binding, run.model.decoder)
        if run.model.has_next_layers:
            further = bind_next_layers(run.model.decoder, run.family.naming, checkpoint.tensors)
            binding = replace(binding, origins={**binding.origins, **further})
        canonical = family(run.model.decoder.family).naming.of(run.model.decoder)
        is_canonical = binding.naming is canonical
        weights = Weights(checkpoint, binding, is_canonical, run.store.lessons(_identity(run)))
        # Now that the tensors are here, whatever was known of them before.
        run = replace(run, model=replace(run.model, parts=name_parts(binding.left_out)))
        with transformed(run, weights) as seen:
            yield run, seen


def _identity(run: Run) -> str:
    """Tell apart what is learned of different weights, or by different code."""
    asked = json.dumps([run.source.digests, run.title, version(), changed_code()], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()[:24]


def fill(
    run: Run, weights: Weights, outputs: list[engine.Output], part: Part = WHOLE
) -> tuple[tuple[int, ...], ...]:
    """Fill the files in one pass, or a part of each; return the stretches of each that are whole."""
    if not outputs:
        return ()
    # However many roles a source tensor fills, it is read once.
    slots = (slot for output in outputs for slot in output.layout.slots)
    used = {(each.origin or weights.origins[each.ref]).name for slot in slots for each in slot.pieces}
    total = sum(weights.checkpoint.tensors[name].size_bytes for name in used) // part.of
    work = weights_of(output.layout for output in outputs)
    with (
        preparing(work, run.hub.notes, run.remark),
        run.progress.stage("convert", total) as advance,
        single_threaded(),  # products of numpy's, so that they add alike for any number of threads
    ):
        return engine.run(
            weights.checkpoint, weights.origins, outputs, threads=run.threads, advance=advance, part=part
        )


def legal_files(run: Run) -> dict[str, bytes]:
    """Read the licenses and notices that travel with every artifact."""
    pinned = run.files
    legal = {name: (pinned.folder / name).read_bytes() for name in pinned.files if is_legal(name)}
    if adapter := run.adapter:
        names = filter(is_legal, adapter.files)
        legal |= {f"adapter-{name}": (adapter.folder / name).read_bytes() for name in names}
    return legal
