"""Speed that a machine can give a model: answers by what is read of memory, prompts by arithmetic."""

from dataclasses import dataclass
from functools import cache

from convert.model.decoder import Decoder, Role
from convert.pick.memory import Weighed, cache_bytes
from convert.pick.runtime import Runtime

_NO_PRODUCT = {Role.EMBED, Role.POSITION, Role.LAYER_EMBED}
# Of the bandwidth of several GPUs that share each layer, what is left by their talking to each other.
PARALLEL_SHARE = 0.8


@dataclass(frozen=True)
class Power:
    """What the estimates know of a machine or of the GPUs that share a model."""

    bandwidth: float
    flops: float


@dataclass(frozen=True)
class Speed:
    """How fast all users' answers come, and how fast a prompt is read."""

    user_tok_s: float
    total_tok_s: float
    first_token_s: float  # of a prompt that is half of the context
    error: float
    is_measured: bool = False


@cache
def active_weights(decoder: Decoder) -> float:
    """Count the weights that a token is multiplied by."""
    total = 0.0
    for ref, shape in decoder.shapes():
        if len(shape) < 2 or ref.role in _NO_PRODUCT:
            continue
        experts = (
            decoder.layers[ref.layer].experts if ref.layer is not None and ref.expert is not None else None
        )
        total += shape[0] * shape[1] * (experts.used_count / experts.count if experts else 1.0)
    return total + (decoder.vocab_size * decoder.hidden_size if decoder.is_tied else 0)


def estimate(
    decoder: Decoder, weighed: Weighed, runtime: Runtime, power: Power, *, context: int, users: int
) -> Speed:
    """Estimate a step in which each user gets a token: memory or arithmetic decides, the slower."""
    runs = runtime.runs
    active = active_weights(decoder)
    read_bytes = weighed.read_bytes(users) + users * cache_bytes(decoder, context // 2, runtime.holds)
    reading_s = read_bytes / (power.bandwidth * runs.bandwidth_share.value)
    computing_s = 2 * active * users / (power.flops * runs.flops_share.value)
    step_s = max(reading_s, computing_s) + runs.step_ms.value / 1e3
    prompt_s = context / 2 * 2 * active / (power.flops * runs.flops_share.value)
    return Speed(1 / step_s, users / step_s, prompt_s + step_s, runs.error.value)
