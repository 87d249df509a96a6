"""What a family's file may say: how its checkpoints name things, and what tools must know of it alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from convert.model.arrange import Arrange
    from convert.model.config import Config
    from convert.model.decoder import Decoder, Part, Role
    from convert.model.feature import Feature
    from convert.model.projector import Projector

VISION, AUDIO, HEADS = "the vision tower", "the audio tower", "the heads for multi-token prediction"
# What a checkpoint may hold besides the text decoder, by its tensors' names, in words for the manifest.
SEEING = r"(.*\.)?(visual|vision_\w+|image_\w+)\b.*"
TOWERS = {
    SEEING: VISION,
    r"(.*\.)?(multi_modal_projector|mm_projector|connector|embed_vision)\b.*": VISION,
    r"(.*\.)?(audio_\w+|embed_audio|sound_\w+)\b.*": AUDIO,
    r"(model\.)?mtp\b.*": HEADS,
}


@dataclass(frozen=True, slots=True)
class Naming:
    """How a family of checkpoints names the roles; roles of one name are stacked in it, in this order.

    A role alone names a module, whose weight and bias these are; a role with its part names a tensor whole.
    Experts whose name has no place for their number are stacked along the tensor's first axis.
    """

    names: Mapping[Role | tuple[Role, Part], str]
    prefix: str = ""  # an outer module that some files name and others leave out
    transposed: frozenset[Role] = frozenset()  # stored (in, out), as Conv1D does
    rows: frozenset[Role] = frozenset()  # vectors that are stored as a stack of one
    # Roles of one name whose rows are dealt out by turns: how many rows at a time, in a given layer.
    runs: Mapping[Role, Callable[[Decoder, int], int]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()  # buffers, by pattern: recomputed by every runtime
    towers: Mapping[str, str] = field(default_factory=lambda: TOWERS)  # by pattern: left out, and said
    next_layer: str = ""  # what names of a layer for further tokens begin with, as a layer after the last
    # The naming of layers for further tokens that are counted by themselves, as layers of their own module.
    next: Naming | None = None
    others: tuple[Naming, ...] = ()  # older and newer spellings
    # Another naming for some models of the family.
    other: Callable[[Decoder], Naming | None] | None = None

    def of(self, decoder: Decoder) -> Naming:
        """Find the naming of a model of the family."""
        return (self.other(decoder) if self.other else None) or self

    @property
    def prefixes(self) -> tuple[str, ...]:
        """List the outer modules that a text decoder may be found in, alone and in a multimodal model."""
        inner = self.prefix
        outer = (f"language_model.{inner}", "model.language_model.", "model.text_model.")
        return tuple(dict.fromkeys((inner, "", *outer)))


@dataclass(frozen=True, slots=True)
class Types:
    """The types that llama-quantize chooses otherwise for some architecture, by quant."""

    head: str | None = None  # of the output head, whatever the quant
    # Of what leads out of MLPs: in the first sixteenth of the layers, in those that get more bits, elsewhere.
    down: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    # Of what leads out of attention, where none of the usual rules apply to it.
    out: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Gguf:
    """What llama.cpp has for a family: its graph's name, and what that graph expects."""

    architecture: str
    renders: frozenset[Feature] = frozenset()  # that this graph computes, beyond the plain case
    # The graph's own names of tensors; roles of one name are stacked in it.
    names: Mapping[Role | tuple[Role, Part], str] = field(default_factory=dict)
    # The graph turns neighboring dimensions of a head, where Transformers turns its two halves.
    is_interleaved: bool = False
    # How the rows of a role are rearranged, in a given layer, and in groups of how many.
    arranged: Mapping[Role, Callable[[Decoder, int], tuple[Arrange, int]]] = field(default_factory=dict)
    # Roles of one name whose rows are dealt out by turns: how many rows at a time, in a given layer.
    runs: Mapping[Role, Callable[[Decoder, int], int]] = field(default_factory=dict)
    # Rows of a role in another order: runs of (first, count).
    order: Mapping[Role, Callable[[Decoder, int], Iterable[tuple[int, int]]]] = field(default_factory=dict)
    # Multipliers folded into the roles of a layer: runs of rows, 0 being all, with those of each.
    scaled: Callable[[Decoder, int], Mapping[Role, Sequence[tuple[int, tuple[float, ...]]]]] | None = None
    # The shape in the file, where it is not the role's own.
    shapes: Mapping[Role, Callable[[Decoder, int], tuple[int, ...]]] = field(default_factory=dict)
    # Another graph for some models of the family.
    other: Callable[[Decoder], Gguf | None] | None = None
    # Tensors that are computed, as (name, values).
    computed: Callable[[Decoder], Iterable[tuple[str, Any]]] | None = None
    # Features that the graph leaves out, each with the reason to record.
    lost: Mapping[Feature, str] = field(default_factory=dict)
    # What this graph cannot express of a decoder whose features it has, in words.
    limits: Callable[[Decoder], Iterable[str]] | None = None
    # Keys of this graph alone: values, or None to leave out one that is usually written.
    keys: Callable[[Decoder], Mapping[str, Any]] | None = None
    # Keys that the graph reads even where they say nothing new.
    always: frozenset[str] = frozenset()
    # Whether the file has a place for layers that guess further tokens.
    has_next_layers: bool = False
    projector: Projector | None = None  # of the tower that some of its models have
    # LLM_TYPE_70B, for which llama-quantize chooses finer types: its layers, and if heads must be shared.
    large_layers: int = 0
    large_shares_heads: bool = False
    # The matrices that the graph multiplies by a number of their own where the file has one, as NVFP4 wants
    # it: all that are large, or none.
    scales: frozenset[Role] = frozenset()
    # Where llama-quantize departs from its own rules for this architecture.
    types: Types = field(default_factory=Types)

    def of(self, decoder: Decoder) -> Gguf:
        """Find the graph for a model of the family."""
        return (self.other(decoder) if self.other else None) or self


@dataclass(frozen=True, slots=True)
class Mlx:
    """What mlx-lm has for a family: the features that its model file computes, and its own names of tensors.

    A mixture's experts are stacked, and matrices are (out, in), whatever the checkpoint has.
    """

    renders: frozenset[Feature] = frozenset()  # that the model file computes, beyond the plain case
    # Names that are not the checkpoint's, each of a module.
    names: Mapping[Role, str] = field(default_factory=dict)
    prefix: str | None = None  # the outer module, where it is not the checkpoint's
    bare: frozenset[Role] = frozenset()  # matrices that no module multiplies by: never quantized
    # Matrices that have 8 bits in groups of 64, whatever the others have.
    wide: frozenset[Role] = frozenset()
    exact: frozenset[Role] = frozenset()  # tensors that keep the type that they are stored in
    arranged: Mapping[Role, Arrange] = field(default_factory=dict)  # what is done to a role's rows
    # Features that the model file leaves out, each with the reason to record.
    lost: Mapping[Feature, str] = field(default_factory=dict)
    # Keys that a config may have in another form, or not.
    keys: Callable[[Decoder], Mapping[str, Any]] | None = None
    # Keys that the model file asks for and a config may leave out.
    defaults: Callable[[Decoder], Mapping[str, Any]] | None = None
    # What the model file cannot express of a decoder whose features it has, in words.
    limits: Callable[[Decoder], Iterable[str]] | None = None


@dataclass(frozen=True, slots=True)
class CTranslate2:
    """What CTranslate2's converter has for a family: what its loader sets, and how it writes that."""

    renders: frozenset[Feature] = frozenset()  # that it sets and the runtime computes, beyond the plain case
    says_head_size: bool = False  # also where it follows from the hidden states
    says_rotary_size: bool = False  # also where all of a head turns
    begins_with_padding: bool = False  # where no token begins a text


@dataclass(frozen=True, slots=True)
class Genai:
    """A type of onnxruntime-genai's that keeps other states than keys and values, or reads texts again."""

    type: str
    reread_length: int | None = None  # texts are read again once they grow beyond it; None: never


@dataclass(frozen=True, slots=True)
class Split:
    """How text is split before byte-level BPE, which vocab.json and .tiktoken files do not say."""

    expression: str | None = None  # None: ByteLevel's own
    normalizer: str | None = None


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """How text is split and laid out where a checkpoint's own files do not say."""

    classes: tuple[str, ...] = ()  # Transformers' names of the tokenizer
    split: Split | None = None
    ranked_special: tuple[str, ...] = ()  # after the ranks of a .tiktoken file; none: it has no such file
    chat_template: str | None = None
    ends_turns: bool = False  # whether an answer ends with the turn, whatever the files say


@dataclass(frozen=True, slots=True)
class Canonical:
    """How Transformers' own classes know a family that has another's shape under other names."""

    # From decoder, bos and eos; None where the source's own keys are the other's, too.
    config: Callable[[Decoder, int | None, int | None], dict[str, Any]] | None = None
    private_keys: frozenset[str] = frozenset()  # of generation_config.json: only its own code reads them


@dataclass(frozen=True, slots=True)
class Reference:
    """The same, written down a second time for the source model that verification asks.

    A mistake in the converter's mapping would be in the reference too, and no comparison would show it.
    """

    config: Callable[[dict[str, Any]], dict[str, Any]]
    tensors: Callable[[Mapping[str, Any]], Iterable[tuple[str, Any]]]


@dataclass(frozen=True)
class Family:
    """All that a family's file says."""

    model_type: str
    classes: tuple[str, ...]
    naming: Naming
    describe: Callable[[Config], Decoder]
    example: Mapping[str, Any]  # a tiny config, from which tests build a seeded checkpoint
    # What configs of this family say differently, by a name: tested too.
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gguf: Gguf | None = None  # None: llama.cpp has no graph
    tokenizer: Tokenizer = Tokenizer()
    genai: Genai | None = None
    mlx: Mlx | None = None  # None: mlx-lm has no model file
    ctranslate2: CTranslate2 | None = None  # None: its converter has no loader
    canonical: Canonical | None = None
    reference: Reference | None = None
    runs_in: frozenset[str] = frozenset()  # runtimes that open it, besides those that verification drives
    may_have_experts: bool = False  # whether keys of experts in a config without any are no contradiction
    # Why GPTQModel fails at it by one of its methods, in words.
    unquantized: Mapping[str, str] = field(default_factory=dict)
    fastchat_prompt: str | None = None  # FastChat's name for its prompt
