"""What a manifest says of GPTQModel's work: what each tensor became, and what came out otherwise."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from convert.checkpoint import open_checkpoint
from convert.deviation import Deviation
from convert.formats.awq.options import AwqOptions
from convert.formats.gptq.options import GptqOptions
from convert.formats.hf.tensors import KEPT_AS
from convert.quantizer import Method, Outcome

KEPT = frozenset(KEPT_AS.values())
# GPTQModel reports it in five decimals.
DAMP_ROUNDING = 1.001
OF_MATRIX = "GPTQModel stores biases of quantized matrices as its scales"
OF_OTHERS = "GPTQModel holds the whole model in the type that most of it has"
SAME_KIND = Deviation(
    "weights",
    "the same bits on every machine",
    "the same bits on machines of one kind",
    "sums round as the kernels of a CPU or a GPU do",
)


def encodings(
    method: Method, options: GptqOptions | AwqOptions, folder: Path, outcome: Outcome
) -> dict[str, str]:
    """Say of each of the model's tensors what it became."""
    group = "row" if options.group_size < 0 else str(options.group_size)
    packed = f"{method}-{options.bits}bit-{group}"
    quantized = {each.name for each in outcome.matrices}
    found = {f"{name}.weight": packed for name in quantized}
    with open_checkpoint(folder) as checkpoint:
        for name, info in checkpoint.tensors.items():
            stem, _, part = name.rpartition(".")
            if stem not in quantized or part == "bias":
                found[name] = info.dtype
    return found


def deviations(
    damp: float | None, outcome: Outcome, types: Mapping[str, str], found: Mapping[str, str]
) -> tuple[Deviation, ...]:
    """Say where GPTQModel departed from what was asked, and from how the source stores a tensor."""
    more = tuple(
        Deviation(
            each.name, f"damp {damp:g}", f"damp {each.damp:g}", "with less its Hessian could not be inverted"
        )
        for each in outcome.matrices
        if damp is not None and each.damp is not None and each.damp > damp * DAMP_ROUNDING
    )
    rounded = tuple(
        Deviation(each.name, "solved by calibration", "rounded to nearest", "no token of the text reached it")
        for each in outcome.matrices
        if each.is_rounded
    )
    quantized = {each.name for each in outcome.matrices}
    changed = Counter(
        (types[name], encoding, OF_MATRIX if name.rpartition(".")[0] in quantized else OF_OTHERS)
        for name, encoding in found.items()
        if encoding in KEPT and types[name] != encoding
    )
    stored = tuple(
        Deviation(f"{count} tensor{'' if count == 1 else 's'}", *what) for what, count in changed.items()
    )
    return (SAME_KIND, *more, *rounded, *stored)
