"""Which types llama.cpp's mixtures give to which tensors: llama_tensor_get_type_impl, as data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from convert.writer.codecs.ggml import BLOCK_TYPES

SHARING_HEADS = 4  # so many heads share their keys where values are worth more bits
FEW_EXPERTS = 8  # with so many, the rest is so small that it gets finer types
SOME_EXPERTS = 4


@dataclass(frozen=True, slots=True)
class Place:
    """What the rules look at: where a tensor is among those of its kind, and what the model is like."""

    index: int
    count: int
    shared_heads: int
    expert_count: int
    has_imatrix: bool

    @property
    def is_early(self) -> bool:
        return self.index < self.count // 8

    @property
    def is_first_sixteenth(self) -> bool:
        return self.index < self.count // 16

    @property
    def takes_more_bits(self) -> bool:
        """Tell whether it is among the first or last eighth, or each third one between: use_more_bits."""
        eighth = self.count // 8
        return self.is_early or self.index >= 7 * self.count // 8 or (self.index - eighth) % 3 == 2


# The types that a kind of tensors may get, each with its test: the first that holds decides.
Rules = Mapping[str, Callable[[Place], bool]]


def _all(_: Place) -> bool:
    return True


def _more(place: Place) -> bool:
    return place.takes_more_bits


def _early(place: Place) -> bool:
    return place.is_early


def _middle(place: Place) -> bool:
    return not place.is_early and place.index < 7 * place.count // 8


def _sixteenth(place: Place) -> bool:
    return place.is_first_sixteenth


def _first(count: int) -> Callable[[Place], bool]:
    return lambda place: place.index < count


def _shared(place: Place) -> bool:
    return place.shared_heads >= SHARING_HEADS


def _shared_or_experts(place: Place) -> bool:
    return _shared(place) or place.expert_count >= SOME_EXPERTS


def _few_experts(place: Place) -> bool:
    return place.expert_count == FEW_EXPERTS


def _weighed_early(place: Place) -> bool:
    return place.has_imatrix and place.is_early


def _plain_early(place: Place) -> bool:
    return not place.has_imatrix and place.is_early


def _plain(place: Place) -> bool:
    return not place.has_imatrix


def _early_or_few_experts(place: Place) -> bool:
    return place.is_early or (_few_experts(place) and place.takes_more_bits)


@dataclass(frozen=True, slots=True)
class Mixture:
    """A llama_ftype: its number, the type that most tensors get, and what others get."""

    file_type: int
    default: str
    head: str = "Q6_K"  # and the embedding, where it is the head too
    embedding: str | None = None  # where it is not
    q: Rules = field(default_factory=dict)
    k: Rules = field(default_factory=dict)
    v: Rules = field(default_factory=dict)
    out: Rules = field(default_factory=dict)  # of attention
    out_of_few_experts: str | None = None
    up: Rules = field(default_factory=dict)  # and gates
    down: Rules = field(default_factory=dict)
    is_low: bool = False  # of so few bits that llama-quantize has rules of their own for it
    stacks: str | None = None  # what stacks of experts or heads get, and they alone
    scaled: str | None = None  # what matrices get that the graph multiplies by a scale of their own

    @property
    def pure(self) -> str:
        """Name the type that all tensors get where they get the same."""
        return self.stacks or self.default


def _low(file_type: int, default: str, *, finer: str, embedding: str, out: Rules) -> Mixture:
    return Mixture(
        file_type,
        default,
        head="Q5_K",
        embedding=embedding,
        k={"Q4_K": _few_experts},
        v={"Q4_K": _shared_or_experts, finer: _all},
        out=out,
        out_of_few_experts="Q5_K",
        down={finer: _early},
        is_low=True,
    )


MIXTURES = {
    "F32": Mixture(0, "F32"),
    "F16": Mixture(1, "F16"),
    "BF16": Mixture(32, "BF16"),
    "Q8_0": Mixture(7, "Q8_0", head="Q8_0"),
    "Q6_K": Mixture(18, "Q6_K"),
    "Q5_K_M": Mixture(17, "Q5_K", v={"Q6_K": _more}, down={"Q6_K": _more}),
    "Q5_K_S": Mixture(16, "Q5_K"),
    "Q5_0": Mixture(8, "Q5_0", down={"Q5_1": _weighed_early}),
    "Q5_1": Mixture(9, "Q5_1"),
    "Q4_K_M": Mixture(15, "Q4_K", v={"Q6_K": _more}, out_of_few_experts="Q5_K", down={"Q6_K": _more}),
    "Q4_K_S": Mixture(14, "Q4_K", v={"Q5_K": _first(4)}, out_of_few_experts="Q5_K", down={"Q5_K": _early}),
    "Q4_0": Mixture(2, "Q4_0", down={"Q4_1": _weighed_early}),
    "Q4_1": Mixture(3, "Q4_1"),
    "Q3_K_L": Mixture(13, "Q3_K", v={"Q5_K": _all}, out={"Q5_K": _all}, down={"Q5_K": _all}),
    "Q3_K_M": Mixture(
        12,
        "Q3_K",
        v={"Q5_K": _first(2), "Q4_K": _all},
        out={"Q4_K": _all},
        out_of_few_experts="Q5_K",
        down={"Q5_K": _sixteenth, "Q4_K": _all},
    ),
    "Q3_K_S": Mixture(11, "Q3_K", out_of_few_experts="Q5_K"),
    "Q2_K": Mixture(
        10,
        "Q2_K",
        v={"Q4_K": _shared, "Q3_K": _all},
        out={"Q3_K": _all},
        out_of_few_experts="Q5_K",
        down={"Q3_K": _all},
    ),
    "Q2_K_S": Mixture(21, "Q2_K", v={"Q4_K": _shared}, down={"Q4_K": _early}),
    "IQ4_XS": Mixture(
        30, "IQ4_XS", v={"Q5_K": _shared}, out_of_few_experts="Q5_K", down={"Q5_K": _plain_early}
    ),
    "IQ4_NL": Mixture(
        25, "IQ4_NL", v={"Q5_K": _shared}, out_of_few_experts="Q5_K", down={"Q5_K": _plain_early}
    ),
    "IQ3_M": Mixture(
        27,
        "IQ3_S",
        v={"Q4_K": _all},
        out={"Q4_K": _all},
        out_of_few_experts="Q5_K",
        down={"Q4_K": _early_or_few_experts},
    ),
    "IQ3_S": Mixture(26, "IQ3_S", v={"Q4_K": _shared}, out_of_few_experts="Q5_K"),
    "IQ3_XS": Mixture(
        22,
        "IQ3_S",
        q={"IQ3_XXS": _all},
        k={"IQ3_XXS": _all},
        v={"Q4_K": _shared},
        out_of_few_experts="Q5_K",
        up={"IQ3_XXS": _middle},
    ),
    "IQ3_XXS": Mixture(
        23,
        "IQ3_XXS",
        head="Q5_K",
        embedding="IQ3_S",
        q={"IQ2_S": _all},
        k={"IQ2_S": _all},
        v={"Q4_K": _shared, "IQ3_S": _plain},
        out={"IQ3_S": _all},
        out_of_few_experts="Q5_K",
        down={"Q4_K": _plain_early, "Q3_K": _plain},
    ),
    "IQ2_M": _low(29, "IQ2_S", finer="IQ3_S", embedding="IQ3_S", out={"IQ3_S": _all}),
    "IQ2_S": _low(28, "IQ2_XS", finer="IQ3_S", embedding="IQ3_S", out={"IQ3_S": _all}),
    "IQ2_XS": _low(20, "IQ2_XS", finer="Q2_K", embedding="Q2_K", out={}),
    "IQ2_XXS": _low(19, "IQ2_XXS", finer="Q2_K", embedding="Q2_K", out={}),
    "IQ1_M": _low(31, "IQ1_M", finer="Q2_K", embedding="Q2_K", out={"IQ2_XXS": _all}),
    "IQ1_S": _low(24, "IQ1_S", finer="Q2_K", embedding="Q2_K", out={"IQ2_XXS": _all}),
    "TQ2_0": Mixture(37, "TQ2_0", embedding="Q4_K"),
    "TQ1_0": Mixture(36, "TQ1_0", embedding="Q4_K"),
    "Q2_0": Mixture(41, "Q2_0", embedding="Q4_K"),
    "Q1_0": Mixture(40, "Q1_0"),
    # Stacks alone have this type; what is not stacked has Q8_0.
    "MXFP4_MOE": Mixture(38, "Q8_0", head="Q8_0", stacks="MXFP4"),
    # Which llama-quantize does not make: it comes from checkpoints of NVFP4 there.
    "NVFP4": Mixture(39, "Q6_K", scaled="NVFP4"),
}

# tensor_type_fallback: what a row takes that is no whole number of blocks.
FALLBACKS = {
    **dict.fromkeys(("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_XS"), "IQ4_NL"),
    **dict.fromkeys(("Q2_0", "Q2_K", "Q3_K", "TQ1_0", "TQ2_0"), "Q4_0"),
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
# tensor_requires_imatrix: what is garbage where all columns count the same.
NEEDS_IMPORTANCE = {"IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S"}


def needs_importance(name: str, type_name: str, quant: str) -> bool:
    """Tell whether llama-quantize refuses a tensor without the importance of its columns."""
    if name in (*EMBEDDINGS, "output.weight"):
        return False
    return type_name in NEEDS_IMPORTANCE or (quant == "Q2_K_S" and type_name == "Q2_K")


def fit(type_name: str, columns: int) -> str | None:
    """Fall back as llama-quantize does where a row is no whole number of blocks; None where it gives up."""
    block_size = BLOCK_TYPES[type_name].block_size
    if columns % block_size == 0:
        return type_name
    fallback = FALLBACKS.get(type_name, type_name if block_size <= SMALL_BLOCK else None)
    if fallback is None:
        return None
    return fallback if columns % BLOCK_TYPES[fallback].block_size == 0 else "F16"


SMALL_BLOCK = 32
EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
UNQUANTIZED = (
    "position_embd.weight",
    "ffn_gate_inp.weight",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "per_layer_model_proj",
)
