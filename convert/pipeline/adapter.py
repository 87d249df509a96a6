"""The adapter of a recipe, brought to its model: what of the model each of its tensors changes."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from convert.checkpoint import Checkpoint, TensorInfo
from convert.checkpoint.adapter import AdaptedCheckpoint, Adapter, Names, Stack, Tied, adapt, is_untying
from convert.errors import Failure
from convert.model import families
from convert.model.binding import Binding, bind, name_of, places, shapes_in_source, squeezed
from convert.model.config import Config, untied
from convert.model.decoder import Decoder
from convert.model.family import Family, Naming
from convert.model.tensor import Ref, Role
from convert.pipeline.run import Run

# What Transformers calls the parameters that it makes of experts' tensors, by these tensors' roles.
_PARAMETERS = {
    (Role.EXPERT_GATE, Role.EXPERT_UP): "gate_up_proj",
    (Role.EXPERT_UP,): "up_proj",
    (Role.EXPERT_DOWN,): "down_proj",
}


def names_of(family: Family) -> Names:
    """List what a family's models may be wrapped in."""
    namings = (family.naming, *family.naming.others)
    prefixes = (prefix for naming in namings for prefix in naming.prefixes)
    return Names(Names().wrappers | {part for prefix in prefixes for part in prefix.split(".") if part})


def describe_untied(adapter: Adapter | None, config: Config, family: Family, decoder: Decoder) -> Decoder:
    """Describe the model that an adapter makes: one that trained a tied head apart has both tensors."""
    if adapter is None or not decoder.is_tied:
        return decoder
    tied = Tied(name_of(family.naming, Ref(Role.EMBED)), name_of(family.naming, Ref(Role.HEAD)))
    if not is_untying(adapter, tied, names_of(family)):
        return decoder
    _, apart = families.describe(Config(untied(config.values), config.where))
    if apart.is_tied:
        raise Failure(
            f"{adapter.file}: trains head and embedding apart, which {family.model_type} always ties",
            "train the adapter with ensure_weight_tying, or without embedding and head",
        )
    return apart


def require_fit(adapter: Adapter | None, config: Config, family: Family, decoder: Decoder) -> None:
    """Refuse an adapter for another model before any weights are fetched.

    What a multimodal model has besides its text decoder is seen in its weights only, and so is this.
    """
    if adapter is None or families.is_multimodal(config):
        return
    faults: list[Failure] = []
    for naming in (family.naming, *family.naming.others):
        try:
            _try(adapter, naming, family, decoder)
        except Failure as failure:
            faults.append(failure)
        else:
            return
    raise faults[0]


def _try(adapter: Adapter, naming: Naming, family: Family, decoder: Decoder) -> None:
    """Bring an adapter to tensors that are only described."""
    names = names_of(family)
    trained = {names.core(name): shape for name, shape in adapter.shapes.items()}
    origins, taken = places(decoder, naming, naming.prefix)
    tensors = []
    for name, wanted in shapes_in_source(decoder.shapes(), origins, taken).items():
        shape = trained.get(names.core(name), wanted)
        # With the axes of one that it has where it was trained.
        found = (each for each in (shape, shape[::-1]) if squeezed(each) == squeezed(wanted))
        tensors.append(TensorInfo(name, "F32", next(found, wanted), Path("config.json"), 0, 0))
    binding = Binding(naming, origins, (), {}, naming.prefix)
    _adapt(Checkpoint(Path(), {}, tensors), adapter, binding, names, is_tied=decoder.is_tied)


def merge(checkpoint: Checkpoint, run: Run) -> Checkpoint:
    """Merge the recipe's adapter into a checkpoint; without an adapter this is the checkpoint itself."""
    if run.lora is None:
        return checkpoint
    is_tied = run.model.decoder.is_tied or run.model.is_untied
    binding = bind(replace(run.model.decoder, is_tied=is_tied), run.family.naming, checkpoint.tensors)
    merged = _adapt(checkpoint, run.lora, binding, names_of(run.family), is_tied=is_tied)
    for what, left_out in binding.left_out.items():
        if count := len(merged.changed & set(left_out)):
            run.remark(f"{run.lora.file.name}: {count} of the tensors that it changes are left out: {what}")
    return merged


def _adapt(
    checkpoint: Checkpoint, adapter: Adapter, binding: Binding, names: Names, *, is_tied: bool
) -> AdaptedCheckpoint:
    transposed = {origin.name for origin in binding.origins.values() if origin.is_transposed}
    head = name_of(binding.naming, Ref(Role.HEAD), binding.prefix)
    return adapt(
        checkpoint,
        adapter,
        is_transposed=transposed.__contains__,
        names=names,
        tied=Tied(binding.origins[Ref(Role.EMBED)].name, head) if is_tied else None,
        stacks=_stacks(binding),
    )


def _stacks(binding: Binding) -> Iterable[Stack]:
    """List the parameters that experts, each in separate tensors, become in Transformers."""
    experts: dict[tuple[int, Role], dict[int, str]] = defaultdict(dict)
    for ref, origin in binding.origins.items():
        if ref.part == "weight" and ref.expert is not None and origin.index is None:
            experts[ref.layer or 0, ref.role][ref.expert] = origin.name
    for layer in sorted({layer for layer, _ in experts}):
        for roles, parameter in _PARAMETERS.items():
            found = [experts.get((layer, role), {}) for role in roles]
            is_part = roles == (Role.EXPERT_UP,) and (layer, Role.EXPERT_GATE) in experts
            if all(found) and not is_part:
                members = tuple(zip(*(tuple(each.values()) for each in found), strict=True))
                module = members[0][0].rpartition(".experts.")[0] + ".experts"
                yield Stack(module, parameter, members)
