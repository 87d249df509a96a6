"""SmolLM3: Llama without positions in every fourth layer."""

from collections.abc import Iterator
from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama
from convert.model.family import Mlx
from convert.model.feature import Feature
from convert.model.pattern import FULL, SLIDING, read_kinds, with_windows

CLASSES = ("SmolLM3ForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = frozenset({"vllm", "sglang", "transformers.js"})
PERIOD = 4
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "rope_theta": 5000000.0,
    "no_rope_layers": [1, 1, 1, 0],
    "no_rope_layer_interval": 4,
    "use_sliding_window": False,
    "sliding_window": None,
}
VARIANTS = {"counted": {"no_rope_layers": None, "num_hidden_layers": 5, "tie_word_embeddings": False}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    values = {**config.values, "rope_theta": config.real("rope_theta", default=2000000.0)}
    decoder = llama.describe(Config({"tie_word_embeddings": True, **values}, config.where))
    still = _still(config, decoder.layer_count)
    window = None
    if config.flag("use_sliding_window", default=False) and config.has("sliding_window"):
        window = config.size("sliding_window")
    kinds = read_kinds(config, [SLIDING if is_still and window else FULL for is_still in still])
    if window is not None:
        decoder = with_windows(decoder, kinds, window)
    layers = tuple(
        replace(layer, mixer=replace(layer.attention, rope=None)) if is_still and layer.attention else layer
        for layer, is_still in zip(decoder.layers, still, strict=True)
    )
    return replace(decoder, family="smollm3", layers=layers)


def _still(config: Config, count: int) -> list[bool]:
    """Read which layers are without positions; configs list those that have them."""
    said = config.values.get("no_rope_layers")
    if said is None:
        interval = config.size("no_rope_layer_interval", default=PERIOD)
        return [(number + 1) % interval == 0 for number in range(count)]
    if not isinstance(said, list) or len(said) != count:
        raise Failure(
            f"{config.where}: no_rope_layers is no list of the model's {count} layers",
            "the file is damaged, or was edited; fetch it again",
        )
    return [not each for each in said]


def _limits(decoder: Decoder) -> Iterator[str]:
    if any(
        (each.rope is None) != (number % PERIOD == 0) for number, each in enumerate(decoder.attentions, 1)
    ):
        yield "layers without positions in another order than every fourth"


GGUF = replace(
    llama.GGUF,
    architecture="smollm3",
    renders=frozenset({
        Feature.NO_POSITIONS, Feature.MIXED_ROTARY, Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
    limits=_limits,
    lost={},
    large_layers=0,
    scales=frozenset(),
)  # fmt: skip
MLX = Mlx(renders=frozenset({Feature.MIXED_ROTARY, Feature.NO_POSITIONS}))
