"""What a recipe's transform does to the weights before any format sees them, and what that costs.

What rotates or learns is imported where a recipe asks for it.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from convert.deviation import Deviation
from convert.model import families
from convert.model.binding import bind, is_transposed, name_of
from convert.model.config import Config, read_config, untied
from convert.model.family import HEADS
from convert.model.feature import Feature
from convert.model.tensor import Ref, Role
from convert.pipeline.adapter import describe_untied
from convert.pipeline.tied import require_tied
from convert.recipe.reader import refuse_at
from convert.store.fault import explained
from convert.store.lessons import held

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydantic import JsonValue

    from convert.checkpoint import Checkpoint, TensorInfo
    from convert.learning.asking import Cost
    from convert.model.decoder import Decoder
    from convert.model.source import Weights
    from convert.pipeline.run import Run

REMOVE = "remove transform for this model"
SCALED = Deviation(
    "channels",
    "the same bits on every machine",
    "scaled by what the text weighs",
    "transform asks for it; the scales are learned by sums that round as the kernels of a CPU do",
)
ROTATED = Deviation(
    "hidden states",
    "as in the source",
    "rotated",
    "transform asks for it; weights of norms are in the matrices that read them",
)
# What raises when the same recipe gives other rotated weights: it is in the key of artifacts.
ROTATION_REVISION = 1


def _rotates(run: Run) -> bool:
    return run.recipe.transform is not None and run.recipe.transform.rotation is not None


def transform_key(run: Run) -> dict[str, JsonValue]:
    """Say what distinguishes an artifact of transformed weights; one of others keeps its key."""
    if run.recipe.transform is None:
        return {}
    key = run.recipe.transform.model_dump(mode="json")
    if run.recipe.learns_scales:
        from convert.learning.scales import REVISION  # noqa: PLC0415

        key["revision"] = REVISION
    if _rotates(run):
        key["rotation_revision"] = ROTATION_REVISION
    return {"transform": key}


def transform_deviations(run: Run, decoder: Decoder, source: Decoder) -> tuple[Deviation, ...]:
    """Say that the weights of every artifact are not the source's, whatever its format."""
    found = [ROTATED] if _rotates(run) else []
    if _rotates(run) and source.is_tied and not decoder.is_tied:
        count = decoder.vocab_size * decoder.hidden_size
        why = f"the last norm's weights are in it, and not in the embedding: {count:,} weights more"
        found.append(Deviation("head", "the embedding", "a separate matrix", why))
    return (*found, *([SCALED] if run.recipe.learns_scales else []))


def untied_by_rotation(run: Run, config: Config, decoder: Decoder) -> Decoder:
    """Describe the model that a rotation makes: a head that is the embedding has the last norm's weights."""
    if not (_rotates(run) and decoder.is_tied and decoder.final_norm.has_weight):
        return decoder
    family, apart = families.describe(Config(untied(config.values), config.where))
    if apart.is_tied:
        why = f"the last norm's weights go into the head, which {family.model_type} ties to the embedding"
        refuse_at(run.recipe, ("transform", "rotation"), why, REMOVE)
    return replace(decoder, is_tied=False)


def require_transformable(run: Run) -> None:
    """Refuse, by feature, a model whose function would change, or that has no place for what is asked."""
    if _rotates(run):
        _require_rotatable(run)
    if not run.recipe.learns_scales:
        return
    from convert.model.folding import REFUSED, folds  # noqa: PLC0415
    from convert.model.forward import RENDERS  # noqa: PLC0415

    beyond = run.model.decoder.features - (RENDERS - REFUSED)
    why = f"cannot be done with {', '.join(sorted(map(str, beyond)))}" if beyond else ""
    if not why and next(folds(run.model.decoder), None) is None:
        why = "no norm and no matrix can hold what others are multiplied by"
    if why:
        refuse_at(run.recipe, ("transform", "scales"), why, REMOVE)


def _require_rotatable(run: Run) -> None:
    from convert.checkpoint.hadamard import MAX_FACTOR, factors  # noqa: PLC0415
    from convert.model.rotating import REFUSED  # noqa: PLC0415

    model, size = run.model, run.model.decoder.hidden_size
    beyond = sorted(map(str, model.decoder.features & REFUSED))
    # Other parts write into the hidden states as well, and are left as they are.
    beyond += sorted(part for part in model.parts if part != HEADS)
    beyond += ["layers for further tokens"] * model.has_next_layers
    why = f"cannot be done with {', '.join(beyond)}" if beyond else ""
    if not why and max(factors(size), default=1) > MAX_FACTOR:
        why = f"{size} channels are a multiple of {max(factors(size))}, a prime number over {MAX_FACTOR}"
    if why:
        refuse_at(run.recipe, ("transform", "rotation"), why, REMOVE)


def rotated_count(run: Run) -> int:
    """Count the weights of which a rotated copy is made first."""
    if not _rotates(run):
        return 0
    from convert.model.rotating import spilled_count  # noqa: PLC0415

    naming = run.family.naming.of(run.model.decoder)
    return spilled_count(run.model.decoder, lambda ref: is_transposed(naming, ref))


def transform_cost(run: Run) -> Cost | None:
    """Bound what it takes to rotate the weights, and to learn the scales."""
    if run.recipe.transform is None:
        return None
    from convert.learning.asking import Cost, cost  # noqa: PLC0415

    found = cost(run.model.decoder, run.recipe) if run.recipe.learns_scales else Cost(0, 0, 0)
    if not _rotates(run):
        return found
    from convert.writer import engine  # noqa: PLC0415

    threads = run.threads or engine.available_threads()
    memory_bytes = max(found.memory_bytes, engine.peak_bytes(threads, 0))
    return replace(found, memory_bytes=memory_bytes, disk_bytes=found.disk_bytes + 4 * rotated_count(run))


def seen_tensors(checkpoint: Checkpoint, run: Run) -> Mapping[str, TensorInfo]:
    """List a checkpoint's tensors, and the head that a rotation makes of an embedding that is one, too."""
    head, embed = _copied(checkpoint, run)
    if head in checkpoint.tensors or not head:
        return checkpoint.tensors
    return {**checkpoint.tensors, head: replace(checkpoint.tensors[embed], name=head)}


def _copied(checkpoint: Checkpoint, run: Run) -> tuple[str, str]:
    """Name the head that a rotation makes, and the embedding that it is made of."""
    config = read_config(run.files.folder)
    tied = replace(run.model.decoder, is_tied=True)
    is_made = _rotates(run) and run.model.is_untied
    if not is_made or not describe_untied(run.lora, config, run.family, tied).is_tied:
        return "", ""
    binding = bind(tied, run.family.naming, checkpoint.tensors)
    require_tied(checkpoint, config, binding, tied)
    return name_of(binding.naming, Ref(Role.HEAD), binding.prefix), binding.origins[Ref(Role.EMBED)].name


@contextmanager
def transformed(run: Run, weights: Weights) -> Iterator[Weights]:
    """Rotate and scale the weights as asked; what is learned of these is kept apart."""
    if run.recipe.transform is None or weights.lessons is None:
        yield weights
        return
    apart, lessons = _apart(weights.lessons, transform_key(run)), weights.lessons
    if _rotates(run):  # the scales are learned of what is rotated
        lessons = _apart(lessons, run.recipe.transform.model_dump(mode="json"), ROTATION_REVISION)
    with ExitStack() as stack:
        remove = stack.enter_context(held(lessons))
        seen = replace(weights, lessons=lessons)
        if _rotates(run):
            require_transformable(run)  # now that all tensors are known
            seen = replace(seen, checkpoint=stack.enter_context(_rotated(run, weights, lessons)))
        if run.recipe.learns_scales:
            from convert.learning.scales import scaled  # noqa: PLC0415

            seen = replace(seen, checkpoint=scaled(run.model, run.recipe, seen, run.progress))
        yield replace(seen, lessons=apart)
        remove()


def _apart(lessons: Path, *asked: object) -> Path:
    """Name another folder for what is learned of other weights."""
    name = hashlib.sha256(" ".join([lessons.name, *map(str, asked)]).encode()).hexdigest()[:24]
    return lessons.with_name(name)


def _rotated(run: Run, weights: Weights, folder: Path) -> Checkpoint:
    """Rotate a checkpoint; what cannot be rotated while it is read goes through the folder."""
    from convert.checkpoint.hadamard import Rotation  # noqa: PLC0415
    from convert.checkpoint.rotated import RotatedCheckpoint  # noqa: PLC0415
    from convert.model.rotating import changes  # noqa: PLC0415
    from convert.writer import engine  # noqa: PLC0415

    if run.recipe.transform is None:
        raise ValueError("the recipe asks for no rotation")
    decoder, checkpoint = run.model.decoder, weights.checkpoint
    keeps_mean = Feature.LAYER_NORM in decoder.features
    rotation = Rotation(decoder.hidden_size, run.recipe.transform.seed, keeps_mean=keeps_mean)
    head, embed = _copied(checkpoint, run)
    copies = {head: embed} if head and head not in checkpoint.tensors else {}
    rotated = RotatedCheckpoint(checkpoint, changes(decoder, weights.origins), rotation, copies)
    threads = run.threads or engine.available_threads()
    with run.progress.stage("rotating", rotated.spilled_bytes) as advance, explained(folder):
        rotated.spill(folder, threads, advance)
    return rotated
