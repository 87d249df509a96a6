"""What formats ask: the lessons of a recipe's text, what they cost, and what a manifest says of them."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from convert.deviation import Deviation
from convert.device import CPU
from convert.errors import UsageFailure
from convert.learning import DAMP, learn
from convert.learning.batch import cut, work_bytes
from convert.learning.hessian import LEFT_OUT, parts_of
from convert.model.decoder import Role
from convert.writer.codecs.compensated import Compensated

if TYPE_CHECKING:
    from pydantic import JsonValue

    from convert.learning import Lessons
    from convert.model.decoder import Decoder, Ref
    from convert.model.source import Model, Weights
    from convert.progress import Progress
    from convert.recipe import Recipe
    from convert.writer.codecs import Codec
    from convert.writer.codecs.compensated import Packing

# Matrices that are multiplied with what another is.
SAME_INPUT = {
    Role.ATTN_K: Role.ATTN_Q,
    Role.ATTN_V: Role.ATTN_Q,
    Role.MLP_GATE: Role.MLP_UP,
    Role.EXPERT_GATE: Role.EXPERT_UP,
    Role.SHARED_GATE: Role.SHARED_UP,
    **dict.fromkeys((Role.DELTA_K, Role.DELTA_V, Role.DELTA_GATE), Role.DELTA_Q),
}
# What some tokens are between the matrices of a layer.
ACTIVATION_BYTES = 256 << 20
# A Cholesky is a third of what a product of matrices costs, and goes through memory more often.
FACTORING = 0.5
SAME_KIND = Deviation(
    "weights",
    "the same bits on every machine",
    "the same bits on machines of one kind",
    "what was learned from the text rounds as the kernels of a CPU do",
)


def require_text(recipe: Recipe, option: str) -> None:
    """Refuse an option that learns where there is no text."""
    if recipe.calibration is None:
        raise UsageFailure(
            f"targets.{option}: gptq, and the recipe has no calibration text",
            "add e.g. calibration: {packs: [searchqa, lessonpack]}",
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What it takes to learn, as far as the description says."""

    operations: float
    memory_bytes: int  # over that of the program
    disk_bytes: int

    @property
    def estimates(self) -> dict[str, Any]:
        """Plan it, as `Planned` has it."""
        return {
            "learning": self.operations,
            "learning_memory_bytes": self.memory_bytes,
            "learning_disk_bytes": self.disk_bytes,
        }


@dataclass(frozen=True)
class Asked:
    """What a format asks to learn: what it will cost, and once the text has passed what was learned."""

    cost: Cost
    lessons: Lessons | None = None

    @classmethod
    def of(cls, model: Model, recipe: Recipe, option: str) -> Self:
        """Ask for what `option` needs; refuse it where there is no text."""
        require_text(recipe, option)
        return cls(cost(model.decoder, recipe))

    def learn(
        self, model: Model, recipe: Recipe, weights: Weights, progress: Progress, damp: float = DAMP
    ) -> Self:
        """Learn from the text."""
        return replace(self, lessons=lessons(model, recipe, weights, progress, damp))

    def codec(self, ref: Ref, packing: Packing) -> Codec:
        """Round one matrix by what was learned of it."""
        return Compensated(packing, self.lessons.factors.get(ref) if self.lessons else None)

    @property
    def deviations(self) -> tuple[Deviation, ...]:
        """Say what could not be learned as asked for."""
        return deviations(self.lessons) if self.lessons else ()

    @property
    def notes(self) -> dict[str, JsonValue]:
        """Record which text it was."""
        return {"calibration": dict(self.lessons.record)} if self.lessons else {}

    @property
    def estimates(self) -> dict[str, Any]:
        """Plan what is yet to be learned, as `Planned` has it."""
        return {} if self.lessons else self.cost.estimates


def lessons(
    model: Model, recipe: Recipe, weights: Weights, progress: Progress, damp: float = DAMP
) -> Lessons:
    """Learn from the recipe's calibration text, or take what another format has learned from it."""
    if recipe.calibration is None or weights.lessons is None:
        raise ValueError("nothing to learn from, or no folder to keep it in")
    decoder = model.decoder
    windows = cut(model, recipe, recipe.calibration, progress)
    with progress.stage("learning to round", work_bytes(decoder, windows)) as advance:
        return learn(decoder, weights, windows, weights.lessons, damp=damp, advance=advance)


def deviations(learned: Lessons) -> tuple[Deviation, ...]:
    """Say what too little text reached, where damping was raised, and where errors stay within parts."""
    unseen = tuple(
        Deviation(
            _named(ref), "solved by calibration", "rounded to nearest", "no token of the text reached it"
        )
        for ref in learned.unseen
    )
    scarce = tuple(
        Deviation(
            _named(ref),
            "solved by calibration",
            "solved by few tokens",
            "fewer tokens of the text reached it than it has columns: more samples help",
        )
        for ref in learned.scarce
    )
    asked = f"damp {learned.damp:g}"
    damped = tuple(
        Deviation(_named(ref), asked, f"damp {factor.damp:g}", "with less its Hessian could not be factored")
        for ref, factor in learned.factors.items()
        if factor.damp > learned.damp
    )
    parted = tuple(
        Deviation(
            _named(ref),
            "one Hessian",
            f"{len(factor.parts)} parts of its columns",
            "a Hessian of all its columns takes too much memory",
        )
        for ref, factor in learned.factors.items()
        if len(factor.parts) > 1
    )
    return (SAME_KIND, *unseen, *scarce, *damped, *parted)


def _named(ref: Ref) -> str:
    expert = "" if ref.expert is None else f".{ref.expert}"
    return str(ref.role) if ref.layer is None else f"layers.{ref.layer}.{ref.role}{expert}"


def token_count(decoder: Decoder, recipe: Recipe) -> int:
    """Bound the tokens that a recipe's text has."""
    if recipe.calibration is None:
        return 0
    return recipe.calibration.samples * min(recipe.calibration.length, decoder.context_length)


def forward_operations(decoder: Decoder, recipe: Recipe) -> float:
    """Bound the operations that all windows cost: two for each weight of a layer that a token reaches."""
    reached = sum(
        math.prod(shape) * decoder.reach(ref) for ref, shape in decoder.shapes() if ref.layer is not None
    )
    return 2.0 * token_count(decoder, recipe) * reached


def cost(decoder: Decoder, recipe: Recipe) -> Cost:
    """Bound the text's way through the model, the Hessians of a layer, and all factors."""
    tokens = token_count(decoder, recipe)
    found = forward_operations(decoder, recipe)
    disk_bytes = 0
    held_bytes: defaultdict[int, int] = defaultdict(int)
    widest = 0
    for (layer, *_), (columns, reach) in _inputs(decoder).items():
        parts = [len(part) for part in parts_of(columns)]
        squares = sum(part**2 for part in parts)
        found += tokens * reach * squares + FACTORING * sum(part**3 for part in parts)
        held_bytes[layer] += 4 * squares
        disk_bytes += 2 * squares
        widest = max(widest, *parts)
    alone = cost_of_squares(decoder, recipe)
    # A Hessian in its order, and its panels.
    memory_bytes = max(held_bytes.values(), default=0) + 6 * widest**2 + alone.memory_bytes
    return Cost(found, memory_bytes, disk_bytes + alone.disk_bytes)


def cost_of_squares(decoder: Decoder, recipe: Recipe) -> Cost:
    """Bound the text's way through the model alone."""
    states_bytes = 4 * token_count(decoder, recipe) * decoder.hidden_size
    memory_bytes = min(states_bytes, CPU.states_bytes) + ACTIVATION_BYTES
    return Cost(forward_operations(decoder, recipe), memory_bytes, 2 * states_bytes)


def _inputs(decoder: Decoder) -> dict[tuple[int, int | None, Role], tuple[int, float]]:
    """List the inputs that have a Hessian: its columns, and the share of the tokens that reach it."""
    found: dict[tuple[int, int | None, Role], tuple[int, float]] = {
        (ref.layer, ref.expert, SAME_INPUT.get(ref.role, ref.role)): (shape[1], decoder.reach(ref))
        for ref, shape in decoder.shapes()
        if ref.layer is not None and ref.part == "weight" and len(shape) == 2 and ref.role not in LEFT_OUT
    }
    return {**found, (decoder.layer_count - 1, None, Role.HEAD): (decoder.hidden_size, 1.0)}
