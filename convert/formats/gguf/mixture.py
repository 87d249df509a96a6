"""Which type each tensor gets in llama.cpp's mixtures: llama_tensor_get_type, as data and small rules."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from convert.formats.gguf.tensors import graph_of
from convert.model.decoder import Decoder, Delta, Latent
from convert.writer.codecs.ggml import BLOCK_TYPES


@dataclass(frozen=True, slots=True)
class Mixture:
    """A llama_ftype: its number, and the type that most tensors get."""

    file_type: int
    default: str


MIXTURES = {
    "F32": Mixture(0, "F32"),
    "F16": Mixture(1, "F16"),
    "BF16": Mixture(32, "BF16"),
    "Q8_0": Mixture(7, "Q8_0"),
    "Q6_K": Mixture(18, "Q6_K"),
    "Q5_K_M": Mixture(17, "Q5_K"),
    "Q5_K_S": Mixture(16, "Q5_K"),
    "Q5_0": Mixture(8, "Q5_0"),
    "Q4_K_M": Mixture(15, "Q4_K"),
    "Q4_K_S": Mixture(14, "Q4_K"),
    "Q4_0": Mixture(2, "Q4_0"),
    "Q3_K_L": Mixture(13, "Q3_K"),
    "Q3_K_M": Mixture(12, "Q3_K"),
    "Q3_K_S": Mixture(11, "Q3_K"),
    "Q2_K": Mixture(10, "Q2_K"),
    "IQ4_XS": Mixture(30, "IQ4_XS"),
    "IQ4_NL": Mixture(25, "IQ4_NL"),
    # Stacks alone have this type; what is not stacked has Q8_0.
    "MXFP4_MOE": Mixture(38, "MXFP4"),
}

# tensor_type_fallback: what a row takes that is no whole number of 256-weight blocks.
FALLBACKS = {
    "IQ4_XS": "IQ4_NL",
    "Q2_K": "Q4_0",
    "Q3_K": "Q4_0",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}

UNQUANTIZED = (
    "position_embd.weight",
    "ffn_gate_inp.weight",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "per_layer_model_proj",
)
EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
# With this many experts, the rest is so small that it gets finer types.
FEW_EXPERTS = 8
FINER_OUTPUTS = {"Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_NL", "Q4_K_S", "Q4_K_M", "IQ4_XS"}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the choice of a type looks at: the name in the file, and the matrix's size."""

    name: str
    rows: int
    columns: int
    is_matrix: bool
    is_stack: bool = False  # of experts, or of heads


class Chooser:
    """Chooses types tensor by tensor; the layers must come in their order, as llama.cpp counts them."""

    def __init__(self, quant: str, decoder: Decoder, shapes: Iterable[Shape], *, has_imatrix: bool) -> None:
        names = [shape.name for shape in shapes]
        self.quant = quant
        self.default = MIXTURES[quant].default
        self.has_imatrix = has_imatrix
        self.layer_count = decoder.layer_count
        self.expert_count = max((each.experts.count for each in decoder.kinds if each.experts), default=0)
        self.value_count = sum(_is_value(name) for name in names)
        self.is_tied = "output.weight" not in names
        graph = graph_of(decoder)
        self.types = graph.types
        self.shared_heads = _shared_heads(decoder)
        self.is_70b = decoder.layer_count == graph.large_layers and (
            self.shared_heads > 1 or not graph.large_shares_heads
        )
        self.seen: Counter[str] = Counter()
        # What the mixture wanted where a row's length forbade it, by tensor.
        self.wanted: dict[str, str] = {}

    def choose(self, shape: Shape) -> str:
        """Name the type of one tensor."""
        if not _is_quantized(shape):
            return "F32"
        if self.default not in BLOCK_TYPES:
            return self.default
        wanted = self._mixed(shape)
        fitting = fit(wanted, shape.columns)
        if fitting != wanted:
            self.wanted[shape.name] = wanted
        return fitting

    def _mixed(self, shape: Shape) -> str:
        name, quant, new = shape.name, self.quant, self.default
        has_few = self.expert_count == FEW_EXPERTS
        if new == "MXFP4":
            return new if shape.is_stack else "Q8_0"
        if name == "output.weight" or (self.is_tied and name in EMBEDDINGS):
            is_wide = new == "Q8_0" or shape.columns % BLOCK_TYPES[new].block_size
            new = self.types.head or ("Q8_0" if is_wide else "Q6_K")
        elif _is_value(name):
            new = self._value(self._count("value"))
        elif "ffn_down" in name:
            index = self._count("down")
            new = self._down(_layer(name) if self.expert_count > 1 else index)
        elif "attn_k.weight" in name and has_few:
            new = "Q8_0"
        elif "attn_output.weight" in name and has_few:
            new = "Q5_K" if quant in FINER_OUTPUTS else new
        elif "attn_output.weight" in name:
            new = self.types.out.get(quant, new)
        return new

    def _count(self, what: str) -> int:
        """Count the tensors of a kind that came before."""
        self.seen[what] += 1
        return self.seen[what] - 1

    def _value(self, index: int) -> str:
        quant, new = self.quant, self.default
        if quant == "Q2_K":
            new = "Q4_K" if self.shared_heads >= 4 else "Q3_K"
        elif quant == "Q3_K_M":
            new = "Q5_K" if index < 2 else "Q4_K"
        elif quant == "Q3_K_L" or (quant in ("IQ4_NL", "IQ4_XS") and self.shared_heads >= 4):
            new = "Q5_K"
        elif quant in ("Q4_K_M", "Q5_K_M") and _takes_more_bits(index, self.value_count):
            new = "Q6_K"
        elif quant == "Q4_K_S" and index < 4:
            new = "Q5_K"
        if self.expert_count == FEW_EXPERTS:
            return "Q8_0"
        if self.is_70b and new in ("Q3_K", "Q4_K"):
            return "Q5_K"
        return new

    def _down(self, index: int) -> str:
        quant, layers = self.quant, self.layer_count
        is_early = index < layers // 8
        if own := self.types.down.get(quant):
            first, more, rest = own
            return first if index < layers // 16 else more if _takes_more_bits(index, layers) else rest
        if quant == "Q3_K_M":
            return "Q5_K" if index < layers // 16 else "Q4_K"
        if quant in ("Q4_K_M", "Q5_K_M"):
            return "Q6_K" if _takes_more_bits(index, layers) else self.default
        always = {"Q2_K": "Q3_K", "Q3_K_L": "Q5_K"}
        early = {"Q4_K_S": "Q5_K"}
        if self.has_imatrix:
            early |= {"Q4_0": "Q4_1", "Q5_0": "Q5_1"}
        else:
            early |= {"IQ4_NL": "Q5_K", "IQ4_XS": "Q5_K"}
        return always.get(quant) or (early.get(quant, self.default) if is_early else self.default)


def fit(type_name: str, columns: int) -> str:
    """Fall back as llama-quantize does where a row is no whole number of blocks."""
    if columns % BLOCK_TYPES[type_name].block_size == 0:
        return type_name
    fallback = FALLBACKS.get(type_name, type_name)
    return fallback if columns % BLOCK_TYPES[fallback].block_size == 0 else "F16"


def _shared_heads(decoder: Decoder) -> int:
    """Count the heads that share their keys, as the file says it of the first layer."""
    layer = decoder.layer
    # Linear attention is said to have the heads of the layers with attention.
    attention = decoder.attention if isinstance(layer.mixer, Delta) else layer.attention
    if attention:
        return attention.head_count // attention.kv_head_count
    return layer.mixer.head_count if isinstance(layer.mixer, Latent) else 0


def _layer(name: str) -> int:
    return int(name.split(".")[1])


def _is_value(name: str) -> bool:
    return "attn_v.weight" in name or "attn_qkv.weight" in name


def _is_quantized(shape: Shape) -> bool:
    """Tell what llama.cpp keeps in 32 bits: vectors, norms, learned positions, routers, convolutions."""
    return (
        shape.is_matrix
        and shape.name.endswith("weight")
        and "_norm.weight" not in shape.name
        and not any(part in shape.name for part in UNQUANTIZED)
    )


def _takes_more_bits(index: int, count: int) -> bool:
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2
