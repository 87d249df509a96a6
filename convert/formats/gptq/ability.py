"""What GPTQModel can quantize: the families that it has, the features that were tried, and its limits."""

import ast
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from convert.formats.gptq import estimate
from convert.formats.hf.tensors import stored_tensors
from convert.model.binding import is_stacked
from convert.model.decoder import Decoder, Ref, Role
from convert.model.families import family
from convert.model.feature import Feature
from convert.quantizer import Method

# Of the features of its families, those of models that were quantized and then answered as their weights do.
RENDERS = frozenset({
    Feature.LEARNED_POSITIONS, Feature.POSITION_OFFSET, Feature.NO_POSITIONS, Feature.ALIBI,
    Feature.PARTIAL_ROTARY, Feature.INTERLEAVED_ROTARY, Feature.MIXED_ROTARY, Feature.QUERY_TEMPERATURE,
    Feature.ROPE_LINEAR, Feature.ROPE_LLAMA3, Feature.ROPE_YARN, Feature.YARN_TURNS, Feature.ROPE_LONGROPE,
    Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.MIXED_MIXERS,
    Feature.SHORT_CONVOLUTION, Feature.DELTA_RULE, Feature.GATED_ATTENTION, Feature.LATENT_ATTENTION,
    Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS, Feature.HEAD_BIAS,
    Feature.QK_NORM, Feature.QK_NORM_ROW, Feature.QK_NORM_HEADS, Feature.LATE_QK_NORM,
    Feature.LAYER_NORM, Feature.UNBIASED_LAYER_NORM, Feature.OFFSET_NORM, Feature.MIXED_NORMS,
    Feature.NO_INPUT_NORM, Feature.POST_NORM, Feature.EMBEDDING_NORM,
    Feature.PARALLEL_MLP, Feature.UNGATED_MLP,
    Feature.GELU, Feature.GELU_TANH, Feature.RELU, Feature.RELU2,
    Feature.ATTENTION_SCALE, Feature.RESIDUAL_SCALE, Feature.EMBEDDING_SCALE, Feature.LOGIT_SCALE,
    Feature.SOFTCAP, Feature.LOGIT_SOFTCAP,
    Feature.EXPERTS, Feature.SHARED_EXPERTS, Feature.GATED_SHARED_EXPERT, Feature.UNNORMALIZED_EXPERTS,
    Feature.SIGMOID_ROUTING, Feature.SELECTION_BIAS, Feature.EXPERT_SCALE, Feature.EXPERT_GROUPS,
})  # fmt: skip
LOST: Mapping[Method, frozenset[Feature]] = {
    "gptq": frozenset(),
    # Where an activation is zero for all tokens, AWQ scales the columns without end; the matrices of latent
    # attention do not fit its groups of matrices.
    "awq": frozenset({Feature.RELU, Feature.RELU2, Feature.LATENT_ATTENTION}),
}
# The names under which GPTQModel writes experts and the head, whatever a checkpoint calls them.
NAMES = {Role.EXPERT_UP: "up_proj", Role.EXPERT_DOWN: "down_proj", Role.HEAD: "lm_head"}


@cache
def known_families() -> frozenset[str] | None:
    """Read GPTQModel's list of families from its source: to import it takes torch, and seconds."""
    spec = find_spec("gptqmodel")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / "models" / "auto.py"
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.Assign(targets=[ast.Name("MODEL_MAP")], value=ast.Dict(keys=keys)):
                found |= {str(key.value) for key in keys if isinstance(key, ast.Constant)}
            # Families of which not every version of Transformers has the classes: ours has.
            case ast.Assign(targets=[ast.Subscript(ast.Name("MODEL_MAP"), ast.Constant(str(name)))]):
                found.add(name)
    return frozenset(found) or None


def limits(method: Method, decoder: Decoder) -> tuple[str, ...]:
    """Say what GPTQModel fails at, of features that it has; found by trying."""
    found = []
    own = family(decoder.family)
    naming = own.naming.of(decoder)
    if why := own.unquantized.get(method):
        found.append(why)
    roles = [] if decoder.is_tied else [Role.HEAD]
    if any(layer.experts for layer in decoder.kinds):
        roles += [Role.EXPERT_UP, Role.EXPERT_DOWN]
        if is_stacked(naming, Ref(Role.EXPERT_DOWN, layer=0, expert=0)):
            found.append("experts of a layer that are one tensor")
            roles.clear()
    if other := [naming.names[role] for role in roles if not naming.names[role].endswith(NAMES[role])]:
        found.append(f"tensors named {' and '.join(name.rpartition('.')[2] for name in other)}")
    turns = {layer.attention.rope for layer in decoder.kinds if layer.attention} - {None}
    if method == "awq":
        if len(turns) > 1:
            found.append(Feature.MIXED_ROTARY)
        matrices = estimate.matrices(stored_tensors(decoder))
        if any(matrix.is_transposed for matrix in matrices):
            found.append("transposed matrices")
        if any(matrix.is_joined for matrix in matrices):
            found.append("matrices that are several fused in one")
    return tuple(found)
