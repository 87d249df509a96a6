"""What a family's file may say: how its checkpoints name things, and what tools must know of it alone."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convert.model.config import Config
from convert.model.decoder import Decoder, Role
from convert.model.feature import Feature


@dataclass(frozen=True, slots=True)
class Naming:
    """How a family of checkpoints names the roles; roles of one name are stacked in it, in this order."""

    names: Mapping[Role, str]
    prefix: str = ""  # an outer module that some files name and others leave out
    transposed: frozenset[Role] = frozenset()  # stored (in, out), as Conv1D does
    ignored: tuple[str, ...] = ()  # buffers, by pattern: recomputed by every runtime
    aliases: Mapping[str, str] = field(default_factory=dict)  # other spellings of a whole name


@dataclass(frozen=True, slots=True)
class Gguf:
    """What llama.cpp has for a family: its graph's name, and what that graph expects."""

    architecture: str
    renders: frozenset[Feature] = frozenset()  # that this graph computes, beyond the plain case
    # The graph's own names of tensors; roles of one name are stacked in it.
    names: Mapping[Role, str] = field(default_factory=dict)
    # The graph turns neighboring dimensions of a head, where Transformers turns its two halves.
    is_interleaved: bool = False
    # Features that the graph leaves out, each with the reason to record.
    lost: Mapping[Feature, str] = field(default_factory=dict)
    # Keys that the graph reads even where they say nothing new.
    always: frozenset[str] = frozenset()
    # LLM_TYPE_70B, for which llama-quantize chooses finer types: its layers, and if heads must be shared.
    large_layers: int = 0
    large_shares_heads: bool = False


@dataclass(frozen=True, slots=True)
class Genai:
    """A type of onnxruntime-genai's whose texts are read again once they grow beyond a length."""

    type: str
    reread_length: int


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

    config: Callable[[Decoder, int | None, int | None], dict[str, Any]]  # from decoder, bos and eos
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
    gguf: Gguf | None = None  # None: llama.cpp has no graph
    tokenizer: Tokenizer = Tokenizer()
    genai: Genai | None = None
    canonical: Canonical | None = None
    reference: Reference | None = None
    runs_in: frozenset[str] = frozenset()  # runtimes that open it, besides those that verification drives
    fastchat_prompt: str | None = None  # FastChat's name for its prompt
