"""The canonical description of a decoder: layers as data, and what goes around them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeGuard

from convert.model.feature import Feature, features_of, plain, switch
from convert.model.mixer import (
    Alibi,
    Attention,
    Delta,
    Latent,
    Mixer,
    Parallel,
    ShortConvolution,
    StateSpace,
    Temperature,
)
from convert.model.mlp import Activation, Dense, DenseAndExperts, Experts, Mlp
from convert.model.norm import Norm, Rope, RopeScaling
from convert.model.tensor import QKV, Origin, Part, Ref, Role, Shaped, linear

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "QKV", "Activation", "Alibi", "Attention", "Decoder", "Delta", "Dense", "DenseAndExperts", "Experts",
    "Latent", "Layer", "LayerInputs", "Mixer", "Mlp", "Norm", "Origin", "Parallel", "Part",
    "Ref", "Role", "Rope", "RopeScaling", "ShortConvolution", "StateSpace", "Temperature",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: a norm, a mixer, a norm, an MLP; each result is added to the hidden states.

    Some layers have a mixer or an MLP alone, and some norms come after or not at all.
    """

    mixer: Mixer | None
    mlp: Mlp | None
    attn_norm: Norm | None
    mlp_norm: Norm | None
    attn_post_norm: Norm | None = switch(None, Feature.POST_NORM)
    mlp_post_norm: Norm | None = switch(None, Feature.POST_NORM)
    # Mixer and MLP both read the layer's input; where it has no norm, the MLP reads the mixer's.
    is_parallel: bool = switch(plain=False, feature=Feature.PARALLEL_MLP)
    residual_scale: float = switch(1.0, Feature.RESIDUAL_SCALE)  # of each result before it is added
    has_scale: bool = switch(plain=False, feature=Feature.LAYER_SCALE)  # of the hidden states, learned
    # A layer for a further token: of what it reads and of what it gives.
    next_norm: Norm | None = plain(None)
    next_vocab_size: int = plain(0)  # of an embedding and a head besides the model's, where it has them

    def shapes(self, layer: int, hidden: int, inputs: LayerInputs | None) -> Shaped:
        """List its tensors, in the model's order."""
        if self.next_norm:
            yield from self.next_norm.shapes(Role.NEXT_EMBED_NORM, layer, hidden)
            yield from self.next_norm.shapes(Role.NEXT_HIDDEN_NORM, layer, hidden)
            yield Ref(Role.NEXT_PROJECTION, layer), (hidden, 2 * hidden)
            yield from self.next_norm.shapes(Role.NEXT_NORM, layer, hidden)
        if self.next_vocab_size:
            yield Ref(Role.NEXT_EMBED, layer), (self.next_vocab_size, hidden)
            yield Ref(Role.NEXT_HEAD, layer), (self.next_vocab_size, hidden)
        if self.attn_norm:
            yield from self.attn_norm.shapes(Role.ATTN_NORM, layer, hidden)
        if self.mixer:
            yield from self.mixer.shapes(layer, hidden)
        if self.attn_post_norm:
            yield from self.attn_post_norm.shapes(Role.ATTN_POST_NORM, layer, hidden)
        if self.mlp_norm:
            yield from self.mlp_norm.shapes(Role.MLP_NORM, layer, hidden)
        if self.mlp:
            yield from self.mlp.shapes(layer, hidden)
        if self.mlp_post_norm:
            yield from self.mlp_post_norm.shapes(Role.MLP_POST_NORM, layer, hidden)
        if inputs:
            yield Ref(Role.LAYER_INPUT_GATE, layer), (inputs.size, hidden)
            yield Ref(Role.LAYER_INPUT_PROJECTION, layer), (hidden, inputs.size)
            yield from inputs.norm.shapes(Role.LAYER_INPUT_NORM, layer, hidden)
        if self.has_scale:
            yield Ref(Role.LAYER_SCALE, layer), (1,)

    @property
    def attention(self) -> Attention | None:
        """Give the attention, also where a state space goes with it."""
        mixer = self.mixer.attention if isinstance(self.mixer, Parallel) else self.mixer
        return mixer if isinstance(mixer, Attention) else None

    @property
    def dense(self) -> Dense | None:
        """Give the MLP that every token goes through."""
        mlp = self.mlp.dense if isinstance(self.mlp, DenseAndExperts) else self.mlp
        return mlp if isinstance(mlp, Dense) else None

    @property
    def experts(self) -> Experts | None:
        """Give the mixture of experts, also where a dense MLP goes with it."""
        mlp = self.mlp.experts if isinstance(self.mlp, DenseAndExperts) else self.mlp
        return mlp if isinstance(mlp, Experts) else None

    @property
    def norms(self) -> dict[Role, Norm | None]:
        side = self.mlp.norm if isinstance(self.mlp, DenseAndExperts) else None
        return {
            **dict.fromkeys((Role.DENSE_POST_NORM, Role.EXPERTS_NORM, Role.EXPERTS_POST_NORM), side),
            Role.ROUTER_NORM: self.experts.router_norm if self.experts else None,
            Role.ATTN_NORM: self.attn_norm,
            Role.ATTN_POST_NORM: self.attn_post_norm,
            Role.MLP_NORM: self.mlp_norm,
            Role.MLP_POST_NORM: self.mlp_post_norm,
            **dict.fromkeys((Role.NEXT_EMBED_NORM, Role.NEXT_HIDDEN_NORM, Role.NEXT_NORM), self.next_norm),
        }

    def norm_of(self, role: Role) -> Norm | None:
        """Find the norm that a tensor belongs to."""
        return self.norms.get(role) or (self.mixer.norm_of(role) if self.mixer else None)


@dataclass(frozen=True, slots=True)
class LayerInputs:
    """Embeddings of each token that every layer gets for itself, added to a projection."""

    size: int
    vocab_size: int
    norm: Norm
    scale: float  # of the embeddings
    projection_scale: float
    sum_scale: float


@dataclass(frozen=True)
class Decoder:
    """Everything that a format needs to know of a model, and nothing of how its source names it."""

    family: str  # the canonical model_type: a family that is another's by other names has that one's
    layers: tuple[Layer, ...]
    hidden_size: int
    vocab_size: int
    context_length: int
    final_norm: Norm
    has_positions: bool = switch(plain=False, feature=Feature.LEARNED_POSITIONS)
    position_offset: int = switch(0, Feature.POSITION_OFFSET)  # rows of the table before the first position
    is_tied: bool = plain(default=False)
    has_head_bias: bool = switch(plain=False, feature=Feature.HEAD_BIAS)
    embed_norm: Norm | None = switch(None, Feature.EMBEDDING_NORM)
    embedding_scale: float | None = switch(None, Feature.EMBEDDING_SCALE)
    layer_inputs: LayerInputs | None = switch(None, Feature.LAYER_INPUTS)
    logit_softcap: float | None = switch(None, Feature.LOGIT_SOFTCAP)
    logit_scale: float | None = switch(None, Feature.LOGIT_SCALE)
    # Layers after these, with which a model guesses further tokens; a checkpoint may have them or not.
    next_layer_count: int = plain(0)
    next_layers: tuple[Layer, ...] = plain(
        ()
    )  # the same where they are described, so that a file may have them
    # The family that llama.cpp has another graph for, whose model reads pictures as well.
    graph: str = plain("")
    picture_layers: int = plain(0)  # the first so many, to which rows of a picture are added once more
    # What the source does that no runtime of ours repeats, in words for the manifest.
    deviations: tuple[str, ...] = plain(())

    @cached_property
    def kinds(self) -> tuple[Layer, ...]:
        """List the layers that differ, each once, in their order."""
        return tuple(dict.fromkeys(self.layers))

    @cached_property
    def features(self) -> frozenset[Feature]:
        """Derive what this model asks of a format beyond the plain case."""
        found = {*features_of(replace(self, layers=self.kinds)), *self._mixed()}
        for layer in self.kinds:
            mixer = layer.mixer
            if attention := layer.attention:
                if attention.rope and attention.rope.dimensions != attention.head_size:
                    found.add(Feature.PARTIAL_ROTARY)
                if attention.rope is None and not (self.has_positions or attention.alibi):
                    found.add(Feature.NO_POSITIONS)
            if mixer is None or layer.mlp is None:
                found.add(Feature.SINGLE_BLOCKS)
            if mixer and mixer.rope and mixer.rope.scaling and mixer.rope.scaling.has_own_turns:
                found.add(Feature.YARN_TURNS)
            if (mixer and not layer.attn_norm) or (
                layer.mlp and not layer.mlp_norm and not layer.is_parallel
            ):
                found.add(Feature.NO_INPUT_NORM)
            if layer.is_parallel and layer.mlp_norm:
                found.add(Feature.PARALLEL_MLP_NORM)
        if len({(norm.eps, norm.kind, norm.has_bias) for norm in self._norms()}) > 1:
            found.add(Feature.MIXED_NORMS)
        return frozenset(found)

    def reach(self, ref: Ref) -> float:
        """Return the share of tokens that go through a tensor; of an expert, of those that choose it."""
        experts = None if ref.layer is None or ref.expert is None else self.layers[ref.layer].experts
        return experts.used_count / experts.count if experts else 1.0

    def _mixed(self) -> Iterator[Feature]:
        """Name in what the layers differ."""
        if len({layer.mixer.window if layer.mixer else None for layer in self.kinds}) > 1:
            yield Feature.MIXED_WINDOWS
        if len({layer.mixer.rope for layer in self.kinds if _may_turn(layer.mixer)}) > 1:
            yield Feature.MIXED_ROTARY
        if len({layer.mlp for layer in self.kinds}) > 1:
            yield Feature.MIXED_MLPS
        if len({_without_places(layer.mixer) for layer in self.kinds}) > 1:
            yield Feature.MIXED_MIXERS
        if len({replace(layer, mixer=None, mlp=None) for layer in self.kinds}) > 1:
            yield Feature.MIXED_LAYERS

    def _norms(self) -> Iterator[Norm]:
        yield self.final_norm
        for layer in self.kinds:
            yield from filter(None, layer.norms.values())
            if isinstance(layer.mixer, Attention) and layer.mixer.qk_norm:
                yield layer.mixer.qk_norm
            if isinstance(layer.mixer, Latent):
                yield layer.mixer.norm

    def norm_of(self, ref: Ref) -> Norm | None:
        """Find the norm that a tensor belongs to."""
        if ref.layer is not None:
            if ref.role is Role.LAYER_INPUT_NORM and self.layer_inputs:
                return self.layer_inputs.norm
            return self.layers[ref.layer].norm_of(ref.role)
        if ref.role is Role.LAYER_EMBED_NORM and self.layer_inputs:
            return self.layer_inputs.norm
        return {Role.FINAL_NORM: self.final_norm, Role.EMBED_NORM: self.embed_norm}.get(ref.role)

    def has_offset(self, ref: Ref) -> bool:
        """Check whether a norm's weights are stored less one."""
        norm = self.norm_of(ref)
        return norm is not None and norm.is_offset and ref.part == "weight"

    def with_next_layers(self) -> Decoder:
        """Put the layers for further tokens after the others, as a file that has both does."""
        return replace(self, layers=(*self.layers, *self.next_layers), next_layers=())

    @property
    def layer_count(self) -> int:
        return len(self.layers)

    @property
    def layer(self) -> Layer:
        """Give the one kind of layer there is; for a format that renders no mixed layers."""
        return self.layers[0]

    @property
    def attentions(self) -> tuple[Attention, ...]:
        """List the attentions of all layers that have one."""
        return tuple(layer.attention for layer in self.layers if layer.attention)

    @property
    def attention(self) -> Attention:
        """Give the first attention; for a format that renders none that differ."""
        return self.attentions[0]

    @property
    def rope(self) -> Rope | None:
        """Give the first layer's rotary positions; for a format that renders no mixed ones."""
        return next((layer.mixer.rope for layer in self.layers if layer.mixer and layer.mixer.rope), None)

    def with_layers(self, **changes: Any) -> Decoder:
        """Change every layer."""
        return replace(self, layers=tuple(replace(layer, **changes) for layer in self.layers))

    def with_mixers(self, **changes: Any) -> Decoder:
        """Change every layer's mixer, or each one's that has these fields."""
        return replace(self, layers=tuple(_edited(layer, "mixer", changes) for layer in self.layers))

    def with_mlps(self, **changes: Any) -> Decoder:
        """Change every layer's MLP, or each one's that has these fields."""
        return replace(self, layers=tuple(_edited(layer, "mlp", changes) for layer in self.layers))

    def with_norm(self, norm: Norm) -> Decoder:
        """Use one kind of norm before attention, before MLPs and at the end."""
        return replace(self.with_layers(attn_norm=norm, mlp_norm=norm), final_norm=norm)

    def shapes(self) -> Shaped:
        """List every canonical tensor with its shape, matrices as (out, in), in the model's order."""
        hidden, inputs = self.hidden_size, self.layer_inputs
        yield Ref(Role.EMBED), (self.vocab_size, hidden)
        if self.embed_norm:
            yield from self.embed_norm.shapes(Role.EMBED_NORM, None, hidden)
        if self.has_positions:
            yield Ref(Role.POSITION), (self.context_length + self.position_offset, hidden)
        if inputs:
            width = self.layer_count * inputs.size
            yield Ref(Role.LAYER_EMBED), (inputs.vocab_size, width)
            yield Ref(Role.LAYER_EMBED_PROJECTION), (width, hidden)
            yield from inputs.norm.shapes(Role.LAYER_EMBED_NORM, None, inputs.size)
        for index, layer in enumerate(self.layers):
            yield from layer.shapes(index, hidden, inputs)
        yield from self.final_norm.shapes(Role.FINAL_NORM, None, hidden)
        if not self.is_tied:
            yield from linear(Ref(Role.HEAD), self.vocab_size, hidden, has_bias=self.has_head_bias)
        elif self.has_head_bias:
            yield Ref(Role.HEAD, part="bias"), (self.vocab_size,)

    @property
    def parameter_count(self) -> int:
        return sum(math.prod(shape) for _, shape in self.shapes())


def _edited(layer: Layer, name: str, changes: dict[str, Any]) -> Layer:
    part = getattr(layer, name)
    if part is None or not changes.keys() <= {field.name for field in fields(part)}:
        return layer
    return replace(layer, **{name: replace(part, **changes)})


def _may_turn(mixer: Mixer | None) -> TypeGuard[Attention | Latent | Parallel]:
    """Check whether a mixer is of a kind that can have positions."""
    return isinstance(mixer, Attention | Latent | Parallel)


def _without_places(mixer: Mixer | None) -> Mixer | None:
    """Leave out of a mixer how far it sees and how its positions turn."""
    if isinstance(mixer, Attention):
        return replace(mixer, window=None, rope=None)
    return mixer
