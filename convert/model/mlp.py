"""MLPs: the wide inner layer of each layer, one for all tokens or a few of many."""

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from convert.model.feature import Feature, plain, switch
from convert.model.norm import Norm
from convert.model.tensor import Ref, Role, Shaped, linear

# "swiglu_clamped": gpt-oss's, whose gate and inner rows are cut off at a limit and whose inner rows add one.
Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2", "swiglu_clamped"]
# How steep its sigmoid is, and what its inner rows gain.
CLAMPED_ALPHA, CLAMPED_BETA = 1.702, 1.0
ACTIVATIONS = {
    "gelu": Feature.GELU,
    "gelu_tanh": Feature.GELU_TANH,
    "relu": Feature.RELU,
    "relu2": Feature.RELU2,
    "swiglu_clamped": Feature.CLAMPED_SWIGLU,
}


@dataclass(frozen=True, slots=True)
class Dense:
    """A plain MLP: up, through an activation, and down; with a gate, that is what is activated."""

    size: int
    activation: Activation = switch("silu", ACTIVATIONS)
    has_gate: bool = switch(plain=True, feature=Feature.UNGATED_MLP)
    has_bias: bool = switch(plain=False, feature=Feature.MLP_BIAS)
    # Multipliers of the gate and of the result.
    gate_scale: float | None = switch(None, Feature.MLP_SCALES)
    down_scale: float | None = switch(None, Feature.MLP_SCALES)

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors."""
        if self.has_gate:
            yield from linear(Ref(Role.MLP_GATE, layer), self.size, hidden, has_bias=self.has_bias)
        yield from linear(Ref(Role.MLP_UP, layer), self.size, hidden, has_bias=self.has_bias)
        yield from linear(Ref(Role.MLP_DOWN, layer), hidden, self.size, has_bias=self.has_bias)


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of MLPs, a few of which a router chooses for each token."""

    FEATURE: ClassVar[Feature] = Feature.EXPERTS

    count: int
    used_count: int
    size: int  # of each
    activation: Activation = switch("silu", ACTIVATIONS)
    has_gate: bool = switch(plain=True, feature=Feature.UNGATED_EXPERTS)
    # How scores become shares: over all experts, or ("softmax_chosen") over those that were chosen.
    routing: Literal["softmax", "sigmoid", "softmax_chosen"] = switch(
        "softmax", {"sigmoid": Feature.SIGMOID_ROUTING, "softmax_chosen": Feature.SOFTMAX_OF_CHOSEN}
    )
    # Whether the shares of the chosen experts add up to one.
    is_normalized: bool = switch(plain=True, feature=Feature.UNNORMALIZED_EXPERTS)
    # What is added to the sum of shares before they are divided by it.
    scale: float = switch(1.0, Feature.EXPERT_SCALE)  # of what all experts give together
    has_selection_bias: bool = switch(plain=False, feature=Feature.SELECTION_BIAS)
    # Experts are chosen from the best groups alone.
    group_count: int = switch(1, Feature.EXPERT_GROUPS)
    used_group_count: int = plain(1)
    # A group's score: the sum of its two best experts, or its best.
    is_group_of_two: bool = plain(default=True)
    has_bias: bool = switch(plain=False, feature=Feature.EXPERT_BIAS)
    has_router_bias: bool = switch(plain=False, feature=Feature.ROUTER_BIAS)
    # What the router sees is normalized by itself, and then scaled.
    router_norm: Norm | None = switch(None, Feature.ROUTER_NORM)
    router_scale: float = plain(1.0)
    has_shares: bool = switch(plain=False, feature=Feature.EXPERT_SHARES)  # learned factors of them
    # Shares weigh what goes into an expert, not what comes out.
    is_input_weighed: bool = switch(plain=False, feature=Feature.WEIGHED_INPUTS)
    shared_size: int = switch(0, Feature.SHARED_EXPERTS)  # of those that see every token
    shared_count: int = plain(1)  # that `shared_size` is the sum of
    has_shared_router: bool = switch(plain=False, feature=Feature.GATED_SHARED_EXPERT)
    latent_size: int = switch(0, Feature.LATENT_EXPERTS)  # of the row that experts read and write
    limit: float | None = plain(None)  # of "swiglu_clamped"
    dense_size: int = plain(0)  # of the dense MLPs that the config names, where no layer may have one

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors, expert by expert."""
        yield from linear(Ref(Role.ROUTER, layer), self.count, hidden, has_bias=self.has_router_bias)
        if self.router_norm:
            yield from self.router_norm.shapes(Role.ROUTER_NORM, layer, hidden)
        if self.has_shares:
            yield Ref(Role.EXPERT_SHARES, layer), (self.count,)
        if self.has_selection_bias:
            yield Ref(Role.ROUTER_SELECTION, layer), (self.count,)
        if self.latent_size:
            yield Ref(Role.EXPERT_NARROW, layer), (self.latent_size, hidden)
            yield Ref(Role.EXPERT_WIDE, layer), (hidden, self.latent_size)
        width = self.latent_size or hidden
        for expert in range(self.count):
            for role in (Role.EXPERT_GATE, Role.EXPERT_UP) if self.has_gate else (Role.EXPERT_UP,):
                inner = Ref(role, layer, expert=expert)
                yield from linear(inner, self.size, width, has_bias=self.has_bias)
            down = Ref(Role.EXPERT_DOWN, layer, expert=expert)
            yield from linear(down, width, self.size, has_bias=self.has_bias)
        if self.shared_size:
            if self.has_shared_router:
                yield Ref(Role.SHARED_ROUTER, layer), (1, hidden)
            if self.has_gate:
                yield Ref(Role.SHARED_GATE, layer), (self.shared_size, hidden)
            yield Ref(Role.SHARED_UP, layer), (self.shared_size, hidden)
            yield Ref(Role.SHARED_DOWN, layer), (hidden, self.shared_size)


@dataclass(frozen=True, slots=True)
class DenseAndExperts:
    """A dense MLP and a mixture side by side, each with norms; what both give is added."""

    FEATURE: ClassVar[Feature] = Feature.DENSE_AND_EXPERTS

    dense: Dense
    experts: Experts
    norm: Norm  # after the dense one; before and after the experts, whose router reads what none has touched

    def shapes(self, layer: int, hidden: int) -> Shaped:
        """List its tensors."""
        yield from self.dense.shapes(layer, hidden)
        yield from self.norm.shapes(Role.DENSE_POST_NORM, layer, hidden)
        yield from self.norm.shapes(Role.EXPERTS_NORM, layer, hidden)
        yield from self.experts.shapes(layer, hidden)
        yield from self.norm.shapes(Role.EXPERTS_POST_NORM, layer, hidden)


Mlp: TypeAlias = Dense | Experts | DenseAndExperts
