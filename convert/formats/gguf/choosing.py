"""The type of every tensor: the mixture's, or what the recipe says of it."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from convert.errors import Failure, UsageFailure
from convert.formats.gguf.mixture import (
    EMBEDDINGS,
    FEW_EXPERTS,
    MIXTURES,
    UNQUANTIZED,
    Place,
    Rules,
    fit,
    needs_importance,
)
from convert.formats.gguf.scaling import require_scales, scalable
from convert.formats.gguf.tensors import FileTensor, graph_of
from convert.model.decoder import Decoder, Delta, Latent
from convert.writer.codecs.ggml import BLOCK_TYPES

HEAD = "output.weight"
# What the mixtures tell apart, by a part of the name in the file.
KINDS = {
    "attn_v.weight": "v",
    "attn_qkv.weight": "v",
    "attn_k.weight": "k",
    "attn_q.weight": "q",
    "attn_output.weight": "out",
    "ffn_up": "up",
    "ffn_gate": "gate",
    "ffn_down": "down",
}
RULES = {"gate": "up"}  # whose rules a kind goes by, if not its own
LAYERED = ("up", "gate", "down")
COARSE = ("Q3_K", "Q4_K")
_LAYER = re.compile(r"blk\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Shape:
    """What the choice of a type looks at: the name in the file, and the matrix's size."""

    name: str
    columns: int
    is_matrix: bool
    is_stack: bool  # of experts, or of heads

    @classmethod
    def of(cls, tensor: FileTensor) -> "Shape":
        is_stack = len(tensor.shape) > 2 and tensor.shape[0] > 1
        return cls(
            tensor.name, tensor.shape[-1] if tensor.is_matrix else 1, tensor.is_matrix, is_stack=is_stack
        )

    @property
    def layer(self) -> int:
        found = _LAYER.match(self.name)
        return int(found[1]) if found else -1

    @property
    def is_quantized(self) -> bool:
        """Tell what llama.cpp keeps in 32 bits: vectors, norms, learned positions, routers, convolutions."""
        return (
            self.is_matrix
            and self.name.endswith("weight")
            and "_norm.weight" not in self.name
            and not any(part in self.name for part in UNQUANTIZED)
        )


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a recipe says of single tensors, as llama-quantize's options do."""

    tensor_types: Sequence[tuple[str, str]] = ()  # by expression: the first that is found in a name decides
    output: str | None = None
    embedding: str | None = None
    head_kept_as: str | None = None  # the head is not quantized, and has the source's own type
    is_pure: bool = False  # all tensors get the same type

    def of(self, shape: Shape) -> str | None:
        """Find what is said of one tensor, whatever would be chosen otherwise."""
        return self.settled(shape) or self.named(shape.name)

    def settled(self, shape: Shape) -> str | None:
        """Find what is said of the head or the embedding, which nothing else changes."""
        if shape.name == HEAD and (self.head_kept_as or self.output):
            return self.head_kept_as or self.output
        is_named = shape.name == EMBEDDINGS[1] and self.named(shape.name)
        return self.embedding if shape.name in EMBEDDINGS and not is_named else None

    def named(self, name: str) -> str | None:
        """Find the type that an expression gives to a tensor."""
        return next((type_ for found, type_ in self.tensor_types if re.search(found, name)), None)


@dataclass(slots=True)
class Choice:
    """The types of a file's tensors, and what the mixture wanted where a row's length forbade it."""

    types: dict[str, str] = field(default_factory=dict)
    wanted: dict[str, str] = field(default_factory=dict)
    scaled: frozenset[str] = frozenset()  # what the graph multiplies by a scale in a tensor


def choose(
    quant: str,
    decoder: Decoder,
    listed: Iterable[FileTensor],
    wishes: Wishes,
    *,
    has_imatrix: bool,
) -> Choice:
    """Choose every tensor's type; refuse what llama-quantize refuses, and wishes that nothing fulfills."""
    listed = tuple(listed)
    shapes = [Shape.of(tensor) for tensor in listed]
    require_sense(shapes, wishes, quant)
    require_scales(decoder, listed, quant)
    chooser = _Chooser(quant, decoder, shapes, wishes, has_imatrix=has_imatrix)
    if MIXTURES[quant].scaled:
        chooser.scaled = scalable(decoder, listed)
    # llama.cpp counts tensors of a kind in this order.
    for shape in sorted(shapes, key=lambda each: (each.layer, each.name)):
        chosen = chooser.choose(shape)
        if not has_imatrix and needs_importance(shape.name, chosen, quant):
            raise UsageFailure(
                f"{quant}: {shape.name} would be {chosen}, which is garbage without an importance matrix",
                "add imatrix: calibration, or name llama.cpp's own file there",
            )
    choice = chooser.choice
    choice.types = {shape.name: choice.types[shape.name] for shape in shapes}
    scaled = MIXTURES[quant].scaled
    choice.scaled = frozenset(name for name in chooser.scaled if choice.types[name] == scaled)
    return choice


def require_sense(shapes: Sequence[Shape], wishes: Wishes, quant: str | None = None) -> None:
    """Refuse wishes that nothing fulfills; None is a budget, which may give any type to any tensor."""
    if wishes.is_pure and quant and MIXTURES[quant].scaled:
        raise UsageFailure(f"pure: {quant} is for matrices that have a scale", "leave it out")
    names = [shape.name for shape in shapes if shape.is_quantized]
    is_tied = HEAD not in names
    is_plain = quant is not None and MIXTURES[quant].default not in BLOCK_TYPES
    if wishes.tensor_types and is_plain:
        raise UsageFailure(f"tensor_types: {quant} has one type for all", "leave them out, or quantize")
    for expression, _ in wishes.tensor_types:
        if not any(re.search(expression, name) for name in names):
            raise UsageFailure(
                f"tensor_types: no tensor that is quantized has {expression!r} in its name",
                f"names are like {', '.join(names[:2])}",
            )
    if is_tied and wishes.head_kept_as:
        raise UsageFailure(
            "leave_output_tensor: the model's head is its embedding", "write embedding_type: BF16 or F16"
        )
    if is_tied and wishes.output and (quant is None or wishes.embedding or is_plain):
        raise UsageFailure("output_type: the model's head is its embedding", "write embedding_type alone")


class _Chooser:
    def __init__(
        self, quant: str, decoder: Decoder, shapes: Iterable[Shape], wishes: Wishes, *, has_imatrix: bool
    ) -> None:
        names = [shape.name for shape in shapes]
        self.quant = quant
        self.mixture = MIXTURES[quant]
        self.wishes = wishes
        self.has_imatrix = has_imatrix
        self.layer_count = decoder.layer_count
        self.expert_count = max((each.experts.count for each in decoder.kinds if each.experts), default=0)
        self.value_count = sum(KINDS.get(_ending(name)) == "v" for name in names)
        self.is_tied = HEAD not in names
        graph = graph_of(decoder)
        self.own = graph.types
        self.shared_heads = _shared_heads(decoder)
        self.is_70b = decoder.layer_count == graph.large_layers and (
            self.shared_heads > 1 or not graph.large_shares_heads
        )
        self.scaled: frozenset[str] = frozenset()
        self.seen: Counter[str] = Counter()
        self.choice = Choice()

    def choose(self, shape: Shape) -> str:
        """Name the type of one tensor, and keep it."""
        chosen = self.wishes.settled(shape) if shape.is_quantized else "F32"
        if chosen is None:
            wanted = self.wishes.named(shape.name)
            wanted = wanted or (self.mixture.pure if self.wishes.is_pure else self._mixed(shape))
            chosen = wanted if wanted not in BLOCK_TYPES else fit(wanted, shape.columns)
            if chosen is None:
                raise _misfit(shape, wanted)
            if chosen != wanted:
                self.choice.wanted[shape.name] = wanted
        elif chosen in BLOCK_TYPES and shape.columns % BLOCK_TYPES[chosen].block_size:
            raise _misfit(shape, chosen)
        self.choice.types[shape.name] = chosen
        return chosen

    def _mixed(self, shape: Shape) -> str:
        name, mixture = shape.name, self.mixture
        if mixture.default not in BLOCK_TYPES:
            return mixture.default
        if name == HEAD or (self.is_tied and name in EMBEDDINGS):
            is_wide = shape.columns % BLOCK_TYPES[mixture.default].block_size
            return self.wishes.output or self.own.head or ("Q8_0" if is_wide else mixture.head)
        if mixture.stacks and shape.is_stack:
            return mixture.stacks
        if name in self.scaled:
            return mixture.scaled or mixture.default
        if name in EMBEDDINGS:
            return mixture.embedding or mixture.default
        kind = next((kind for part, kind in KINDS.items() if part in name), None)
        return self._of_kind(kind, shape) if kind else mixture.default

    def _of_kind(self, kind: str, shape: Shape) -> str:
        mixture, has_few = self.mixture, self.expert_count == FEW_EXPERTS
        if has_few and kind in ("k", "v") and not mixture.is_low and not mixture.stacks:
            return "Q8_0"
        if has_few and kind == "out":
            return mixture.out_of_few_experts or mixture.default
        place = self._place(kind, shape)
        own = None if mixture.is_low else self._own(kind, place)
        new = own or _first_of(getattr(mixture, RULES.get(kind, kind)), place) or mixture.default
        return "Q5_K" if kind == "v" and self.is_70b and not mixture.is_low and new in COARSE else new

    def _own(self, kind: str, place: Place) -> str | None:
        """Name the type that the model's architecture gets, whatever the mixture says."""
        if kind == "down" and (own := self.own.down.get(self.quant)):
            first, more, rest = own
            return first if place.is_first_sixteenth else more if place.takes_more_bits else rest
        if kind == "out" and self.own.out is not None:
            return self.own.out.get(self.quant, self.mixture.default)
        return None

    def _place(self, kind: str, shape: Shape) -> Place:
        """Count the tensors of a kind that came before; an MLP of experts goes by its layer."""
        index = self.seen[kind]
        self.seen[kind] += 1
        if kind in LAYERED and self.expert_count > 1 and not self.mixture.is_low:
            index = shape.layer
        count = self.value_count if kind == "v" else self.layer_count
        return Place(index, count, self.shared_heads, self.expert_count, self.has_imatrix)


def _first_of(rules: Rules, place: Place) -> str | None:
    return next((type_name for type_name, holds in rules.items() if holds(place)), None)


def _misfit(shape: Shape, type_name: str) -> Failure:
    return UsageFailure(
        f"{shape.name}: its {shape.columns} columns are no whole number of {type_name}'s blocks of "
        f"{BLOCK_TYPES[type_name].block_size}",
        "choose another type",
    )


def _shared_heads(decoder: Decoder) -> int:
    """Count the heads that share their keys, as the file says it of the first layer."""
    layer = decoder.layer
    # Linear attention is said to have the heads of the layers with attention.
    attention = decoder.attention if isinstance(layer.mixer, Delta) else layer.attention
    if attention:
        return attention.head_count // attention.kv_head_count
    return layer.mixer.head_count if isinstance(layer.mixer, Latent) else 0


def _ending(name: str) -> str:
    return ".".join(name.split(".")[-2:])
