"""ONNX for onnxruntime-genai: a folder with the graph, its weights, its settings and the tokenizer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from convert.deviation import Deviation
from convert.extras import installed, require
from convert.formats.base import Format, Planned, Weight, learnable
from convert.formats.hf.companions import canonical_config, to_json
from convert.formats.hf.format import promised_type
from convert.formats.hf.tensors import KEPT_AS, Float
from convert.formats.onnx import mixing
from convert.formats.onnx.options import BITS, Folder, OnnxOptions, Precision, Provider, parts
from convert.learning.asking import Asked
from convert.model.decoder import Decoder, Ref, Role
from convert.model.families import family
from convert.model.feature import Feature
from convert.model.source import Model, Weights
from convert.progress import Progress
from convert.recipe import Recipe
from convert.writer.codecs import Codec
from convert.writer.codecs.matmul_nbits import NBits
from convert.writer.codecs.plain import Plain
from convert.writer.layout import Layout

if TYPE_CHECKING:
    from convert.formats.onnx.weights import Storage

# Written into each graph: modelwright's own version would change the bytes with every commit.
PRODUCER_VERSION = "0.1.0"
FLOATS: dict[Precision, Literal["F32", "F16"]] = {Precision.FP16: "F16", Precision.FP32: "F32"}
# What families are said to run in.
JS = "transformers.js"
EIGHT_BITS, NOISY_LEVEL = 8, 4


@dataclass(frozen=True)
class Native:
    """What all artifacts share: the float that keeps the source's numbers exactly."""

    native: Float
    asked: Asked | None = None  # to learn from the calibration text
    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # of matrices in 4 and 8 bits


class OnnxFormat(Format[OnnxOptions, Native]):
    """One folder a precision and provider, as `onnx-int4-cpu`."""

    name = "onnx"
    REVISION = 4
    RENDERS = frozenset({
        Feature.LEARNED_POSITIONS, Feature.PARTIAL_ROTARY,
        Feature.ROPE_LINEAR, Feature.ROPE_LLAMA3, Feature.ROPE_YARN, Feature.ROPE_LONGROPE,
        Feature.EXACT_YARN, Feature.YARN_TURNS,
        Feature.WINDOW, Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS, Feature.QK_NORM,
        Feature.LAYER_NORM, Feature.OFFSET_NORM, Feature.UNGATED_MLP, Feature.GELU, Feature.GELU_TANH,
        Feature.RELU, Feature.RELU2, Feature.EMBEDDING_SCALE,
        Feature.INTERLEAVED_ROTARY, Feature.PROPORTIONAL_ROTARY, Feature.MIXED_ROTARY, Feature.NO_POSITIONS,
        Feature.POSITION_OFFSET, Feature.QUERY_TEMPERATURE, Feature.MIXED_WINDOWS, Feature.MIXED_MIXERS,
        Feature.MIXED_MLPS, Feature.MIXED_LAYERS, Feature.MIXED_NORMS, Feature.SINGLE_BLOCKS,
        Feature.PARALLEL_MLP, Feature.PARALLEL_MLP_NORM, Feature.RESIDUAL_SCALE, Feature.LAYER_SCALE,
        Feature.GATED_ATTENTION, Feature.KEYS_AS_VALUES, Feature.SHARED_KEYS_VALUES,
        Feature.LATENT_ATTENTION, Feature.DELTA_RULE, Feature.SHORT_CONVOLUTION, Feature.CONVOLUTION_BIAS,
        Feature.QK_NORM_ROW, Feature.QK_NORM_HEADS, Feature.LATE_QK_NORM, Feature.V_NORM,
        Feature.CLIPPED_QKV, Feature.ATTENTION_SCALE, Feature.SOFTCAP, Feature.SINKS,
        Feature.WEIGHTLESS_NORM, Feature.UNBIASED_LAYER_NORM, Feature.NO_INPUT_NORM, Feature.POST_NORM,
        Feature.EXPERTS, Feature.SHARED_EXPERTS, Feature.UNNORMALIZED_EXPERTS, Feature.SIGMOID_ROUTING,
        Feature.SOFTMAX_OF_CHOSEN, Feature.EXPERT_SCALE, Feature.EXPERT_BIAS, Feature.EXPERT_GROUPS,
        Feature.SELECTION_BIAS, Feature.ROUTER_BIAS, Feature.GATED_SHARED_EXPERT, Feature.CLAMPED_SWIGLU,
        Feature.STATE_SPACE, Feature.STATE_NORM, Feature.STATE_NORM_FIRST, Feature.STATE_BIAS,
        Feature.STATE_TIMES, Feature.STATE_SCALES, Feature.UNBIASED_CONVOLUTION, Feature.PARALLEL_MIXERS,
        Feature.LAYER_INPUTS, Feature.EMBEDDING_NORM, Feature.HEAD_BIAS,
        Feature.LOGIT_SOFTCAP, Feature.LOGIT_SCALE,
    })  # fmt: skip

    def renders(self, decoder: Decoder, options: OnnxOptions | None = None) -> frozenset[Feature] | None:
        """Express all, but for a rounding what the calibration text can pass through.

        For transformers.js, of the families that it has.
        """
        if options and options.layout is Folder.TRANSFORMERS_JS and JS not in family(decoder.family).runs_in:
            return None
        return learnable(self.RENDERS, options)

    def limits(self, decoder: Decoder) -> tuple[str, ...]:
        require("onnx")
        from convert.formats.onnx.positions import limits  # noqa: PLC0415 - without onnx other formats work

        return tuple(dict.fromkeys(limits(decoder)))

    def tools(self, options: OnnxOptions, target: str) -> dict[str, str]:
        return {name: installed(name) for name in ("onnx", "numpy")}  # numpy computes the rotary tables

    def prepare(self, model: Model, options: OnnxOptions, recipe: Recipe) -> Native:
        """Take the source's float from what is known of it without its weights."""
        if options.learns_by is None:
            return Native(promised_type(model))
        return Native(promised_type(model), Asked.of(model, recipe, f"{self.name}.rounding"))

    def learn(
        self,
        prepared: Native,
        model: Model,
        options: OnnxOptions,
        recipe: Recipe,
        *,
        weights: Weights,
        progress: Progress,
    ) -> Native:
        """Take the source's float from the weights, where these are of another than the config says."""
        tensors, origins = weights.checkpoint.tensors, weights.origins
        tables = [origins[ref].name for ref in (Ref(Role.EMBED), Ref(Role.HEAD)) if ref in origins]
        stored: set[Float] = {KEPT_AS.get(tensors[name].dtype, "F32") for name in tables}
        native = stored.pop() if len(stored) == 1 else "F32"  # which holds both, where they differ
        mixed = next((each for each in options.by_target() if options.is_mixed(parts(each)[0])), None)
        if mixed is not None:
            slots = mixing.slots_of(_unmixed(model.decoder, options, mixed, prepared))
            prepared = replace(prepared, errors=mixing.measure_errors(slots, weights, progress))
        if prepared.asked:
            asked = prepared.asked.learn(model, recipe, weights, progress)
            prepared = replace(prepared, asked=asked)
        return prepared if native == prepared.native else replace(prepared, native=native)

    def lay_out(self, model: Model, options: OnnxOptions, target: str, prepared: Native) -> Planned:
        """Build the graph and plan the file of weights; nothing is read for it."""
        require("onnx")
        from convert.formats.onnx import (  # noqa: PLC0415 - without onnx other formats work
            genai,
            transformers_js,
            vocabulary,
        )
        from convert.formats.onnx.graph import MODEL_FILE  # noqa: PLC0415
        from convert.formats.onnx.network import build  # noqa: PLC0415

        precision, provider = parts(target)
        mix = _mix(model.decoder, options, target, prepared)
        storage = _storage(model.decoder, options, target, prepared, mix)
        graph, layout = build(model.decoder, storage, PRODUCER_VERSION)
        is_js = options.layout is Folder.TRANSFORMERS_JS
        if is_js:
            layout, files = transformers_js.arrange(model, graph, layout, precision, provider)
        else:
            config = canonical_config(model, "float16" if provider is Provider.CUDA else "float32")
            files = {
                MODEL_FILE: graph.SerializeToString(deterministic=True),
                "config.json": to_json(config),
                **genai.files(model, provider),
                **vocabulary.files(model.tokenizer),
            }
        return Planned(
            target,
            (layout,),
            files=files,
            encodings={slot.name: slot.encoding for slot in layout.slots},
            **(prepared.asked.estimates if prepared.asked else {}),
            notes=prepared.asked.notes if prepared.asked else {},
            deviations=(
                *(prepared.asked.deviations if prepared.asked else ()),
                *((mix.deviation(),) if mix else ()),
                *_rounded(options, target, prepared),
                *_experts(model.decoder, options, target),
                *browser_deviations(options, target),
                *(() if is_js else (*genai.deviations(model), *vocabulary.deviations(model.tokenizer))),
            ),
        )

    def weigh(
        self, decoder: Decoder, options: OnnxOptions, target: str, native: str
    ) -> Iterable[Weight] | None:
        """Build the graph, and measure what its file of weights has room for."""
        require("onnx")
        from convert.formats.onnx.network import build  # noqa: PLC0415 - without onnx other formats work

        prepared = Native(KEPT_AS.get(native, "F32"))
        mix = _mix(decoder, options, target, prepared)
        _, layout = build(decoder, _storage(decoder, options, target, prepared, mix), PRODUCER_VERSION)
        slots = [Weight.of(slot) for slot in layout.slots]
        return [*slots, *(Weight(None, len(data)) for _, data in layout.fixed)]


def _unmixed(decoder: Decoder, options: OnnxOptions, target: str, prepared: Native) -> Layout:
    """Lay out a mixed artifact as if all its matrices had 4 bits."""
    from convert.formats.onnx.network import build  # noqa: PLC0415 - without onnx other formats work

    storage = _storage(decoder, options, target, replace(prepared, asked=None), None)
    return build(decoder, storage, PRODUCER_VERSION)[1]


def _mix(decoder: Decoder, options: OnnxOptions, target: str, prepared: Native) -> mixing.Mix | None:
    """Choose what has 8 bits, where some matrices have."""
    if not options.is_mixed(parts(target)[0]):
        return None
    layout = _unmixed(decoder, options, target, prepared)
    return mixing.choose(
        decoder, mixing.slots_of(layout), prepared.errors, is_compensated=bool(options.learns_by)
    )


def _storage(
    decoder: Decoder, options: OnnxOptions, target: str, prepared: Native, mix: mixing.Mix | None
) -> "Storage":
    from convert.formats.onnx.weights import Storage  # noqa: PLC0415

    precision, provider = parts(target)
    float_name: Literal["F32", "F16"] = "F16" if provider is Provider.CUDA else "F32"
    level = options.level(provider)
    if precision in FLOATS:
        body = Plain(FLOATS[precision])
        return Storage(float_name, body, body, body, level)
    native = Plain(_native(options, provider, prepared))
    is_mixed = options.is_mixed(precision)

    def stored(name: str) -> Codec:
        if name == "native":
            return native
        found = NBits(BITS[name], options.block_size, options.is_symmetric(precision), float_name)
        return mixing.fine(found, decoder.hidden_size) if is_mixed and name == Precision.INT8 else found

    return Storage(
        float_name,
        body=stored(precision),
        head=stored(options.head_of(precision)),
        embedding=stored(options.embedding_of(precision, provider)),
        accuracy_level=level,
        chosen=(mix.chosen if mix else {}) if is_mixed else None,
        asked=prepared.asked,
    )


def _native(options: OnnxOptions, provider: Provider, prepared: Native) -> Float:
    """Say what the source's own numbers are stored as; in browsers no kernel widens BF16."""
    is_web = options.layout is Folder.TRANSFORMERS_JS and prepared.native == "BF16"
    return "F16" if provider is Provider.CUDA or is_web else prepared.native


def _rounded(options: OnnxOptions, target: str, prepared: Native) -> tuple[Deviation, ...]:
    """Say what is called native and is not quite."""
    precision, provider = parts(target)
    native = _native(options, provider, prepared)
    if precision in FLOATS or prepared.native == native:
        return ()
    asked = {"embedding": options.embedding_of(precision, provider), "head": options.head}
    is_cuda = provider is Provider.CUDA
    why = "the graph computes in float16" if is_cuda else "onnxruntime-web reads no BF16"
    return tuple(
        Deviation(part, f"native ({prepared.native})", native, why)
        for part, stored in asked.items()
        if stored == "native"
    )


def browser_deviations(options: OnnxOptions, target: str) -> tuple[Deviation, ...]:
    """Say where an embedding that was asked for cannot be looked up."""
    precision, provider = parts(target)
    is_web = options.layout is Folder.TRANSFORMERS_JS and precision not in FLOATS
    if not is_web or options.embedding_of(precision, provider) != "int8":
        return ()
    why = "onnxruntime-web looks up no rows of 8 bits"
    return (Deviation("embedding", "read in Node and in browsers", "read in Node alone", why),)


def _experts(decoder: Decoder, options: OnnxOptions, target: str) -> tuple[Deviation, ...]:
    """Say where an accuracy level is not kept."""
    precision, provider = parts(target)
    if BITS.get(precision) != EIGHT_BITS or Feature.EXPERTS not in decoder.features:
        return ()
    level = options.level(provider)
    if level == NOISY_LEVEL:
        return ()
    why = "onnxruntime multiplies experts of 8 bits with activations of 8 bits"
    return (Deviation("experts", f"accuracy level {level}", f"level {NOISY_LEVEL}", why),)


FORMAT = OnnxFormat()
