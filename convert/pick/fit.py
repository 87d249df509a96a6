"""How a candidate fits a machine in a runtime: memory, speed, and why it cannot be the answer.

The page does the same by `pick.js`; a test compares the two.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from convert.pick import memory as memories
from convert.pick import speed as speeds
from convert.pick.candidate import Candidate
from convert.pick.data import read_json
from convert.pick.machine import Machine
from convert.pick.memory import Memory, Weighed
from convert.pick.need import Need
from convert.pick.runtime import Runtime
from convert.pick.speed import Power, Speed

# What vLLM takes of a GPU's memory unless it is asked for another share.
GPU_SHARE = 0.9
PARALLEL = (1, 2, 4, 8, 16)
# What is replaced as soon as a place is tried.
NONE, NOT_RUN = Memory(0.0, 0.0, 0.0, 0.0), Speed(0.0, 0.0, 0.0, 0.0)
TOO_SLOW = "is too slow"
# Models of 2023 are the zero of the ranking by years.
FIRST_YEAR = 2023.0


@dataclass(frozen=True)
class Fit:
    """A candidate in a runtime on a machine."""

    candidate: Candidate
    runtime_name: str
    runtime: Runtime
    memory: Memory
    speed: Speed
    room_bytes: float
    parallel: int = 1  # GPUs that share the model
    replicas: int = 1
    sequences: int = 1  # texts of full length that fit at once, in all replicas
    fault: str = ""  # why it is not the answer, whatever the room
    least_speed: float = 0.0  # that is asked for

    @property
    def spare_bytes(self) -> float:
        return self.room_bytes - self.memory.total_bytes

    @property
    def is_certain(self) -> bool:
        """Say whether it fits even if the estimate is off by as much as others were."""
        return self.memory.most_bytes <= self.room_bytes

    @property
    def is_answer(self) -> bool:
        return not self.fault and self.is_certain

    @property
    def is_surely_quick(self) -> bool:
        """Say whether it is quick enough even if the estimate is off by as much as others were."""
        return self.speed.user_tok_s * (1 - self.speed.error) >= self.least_speed

    @property
    def is_suited(self) -> bool:
        """Say whether nothing but room and speed speaks against it."""
        return not self.fault or self.fault.endswith(TOO_SLOW)

    @property
    def why_not(self) -> str:
        """Say in a few words why it is not the answer."""
        if self.is_certain or not self.is_suited:
            return self.fault
        if self.spare_bytes >= 0:
            return "too close to the limit"
        heads = {each.kv_head_count for each in self.candidate.model.decoder.attentions}
        is_cache = self.memory.cache_bytes > self.memory.weights_bytes / 4
        return f"does not fit: {max(heads)} KV heads" if is_cache and heads else "does not fit"

    @property
    def boost(self) -> float:
        """Say how many times quicker than 16 bits its numbers are multiplied."""
        return boost(self.candidate, self.runtime)

    @property
    def loss(self) -> float:
        """Return what the ranking goes by; numbers that a GPU multiplies quicker may lose a little more."""
        native: float = read_json("quality.json")["native"]["value"]
        return self.plain_loss - (native if self.boost > 1 else 0.0)

    @cached_property
    def plain_loss(self) -> float:
        """Return the divergence from the source, less what size and age bring a model.

        A source's KL is what its own texts lose in log-perplexity. A measured ratio of perplexities says
        less: one below 1 is as far from the source as one above.
        """
        table = read_json("quality.json")
        model = self.candidate.model
        size = float(model.sized or math.sqrt(model.parameter_count * max(model.active_count, 1.0)))
        size = min(size, float(model.parameter_count))
        years = (model.released or FIRST_YEAR) - FIRST_YEAR
        gain: float = table["scale"]["value"] * math.log(size / 1e9) + table["year"]["value"] * years
        return (self.expected_kl if self.candidate.kl is None else self.candidate.kl) - gain

    @property
    def expected_kl(self) -> float:
        """Return what was published of its type."""
        return self._expected["kl"]

    @property
    def title(self) -> str:
        """Name the candidate as people read it."""
        return f"{self.candidate.label} {self.candidate.shown_target}"

    @property
    def _expected(self) -> dict[str, float]:
        types = read_json("quality.json")["types"]
        bits = converted_bits(self.candidate, self.runtime)
        key = (
            self.candidate.quality_key if bits is None else f"own-{4 if bits < 6 else 8 if bits < 12 else 16}"
        )
        found: dict[str, float] = (
            types.get(key) or types[self.candidate.format_name.replace("gguf", "gguf-Q2_K")]
        )
        return found


def converted_bits(candidate: Candidate, runtime: Runtime) -> float | None:
    """Return the bits of a weight after a runtime's own converter; None where it opens what we built."""
    return runtime.bits if candidate.format_name == "hf" else None


def boost(candidate: Candidate, runtime: Runtime) -> float:
    """Return how many times quicker than 16 bits a GPU multiplies it, which some types need."""
    found = (factor for begin, factor in runtime.boost.items() if candidate.target.startswith(begin))
    return max(found, default=1.0)


def fit(candidate: Candidate, name: str, runtime: Runtime, machine: Machine, need: Need) -> Fit | None:
    """Estimate how a candidate fits; None where its format cannot express the model."""
    weighed = candidate.weighed
    if weighed is None:
        return None
    if (bits := converted_bits(candidate, runtime)) is not None:
        weighed = _narrowed(weighed, bits / 16)
    start = Fit(candidate, name, runtime, NONE, NOT_RUN, 0.0)
    found = list(_placed(start, weighed, machine, need))
    best = next((each for each in found if each.is_certain), None)
    best = best or min(found, key=lambda each: -each.spare_bytes)
    fault = next(_faults(best, machine, need), "")
    return replace(best, fault=fault, least_speed=need.min_speed)


def _narrowed(weighed: Weighed, share: float) -> Weighed:
    return replace(
        weighed,
        size_bytes=int(weighed.size_bytes * share),
        table_bytes=int(weighed.table_bytes * share),
        common_bytes=int(weighed.common_bytes * share),
        expert_bytes=int(weighed.expert_bytes * share),
    )


def _placed(start: Fit, weighed: Weighed, machine: Machine, need: Need) -> Iterator[Fit]:
    """Try one GPU, then as many as share the model; or the machine's own memory."""
    candidate, runtime = start.candidate, start.runtime
    decoder, gpu = candidate.model.decoder, machine.gpu
    whole = memories.estimate(decoder, weighed, runtime.holds, context=need.context, users=need.users)
    one = memories.estimate(decoder, weighed, runtime.holds, context=need.context).cache_bytes
    if gpu is None or not machine.gpus:
        measured = _measured_memory(candidate, runtime, need) or whole
        power = Power(machine.bandwidth, machine.flops)
        own = speeds.estimate(decoder, weighed, runtime, power, context=need.context, users=need.users)
        quick = _measured_speed(candidate, runtime, machine, need) or own
        sequences = _sequences(machine.room_bytes, whole, one)
        room = machine.room_bytes
        yield replace(start, memory=measured, speed=quick, room_bytes=room, sequences=sequences)
        return
    for parallel in PARALLEL:
        if parallel > machine.gpus or (
            parallel > 1 and not (runtime.parallel and divides(candidate, parallel))
        ):
            continue
        replicas = machine.gpus // parallel if runtime.parallel else 1
        users = math.ceil(need.users / replicas)
        part = memories.estimate(decoder, weighed, runtime.holds, context=need.context, users=users)
        share = replace(
            part, weights_bytes=part.weights_bytes / parallel, cache_bytes=part.cache_bytes / parallel
        )
        room = gpu.memory_bytes * GPU_SHARE
        rest = speeds.PARALLEL_SHARE if parallel > 1 else 1.0
        power = Power(gpu.bandwidth * parallel * rest, gpu.flops * parallel * rest * start.boost)
        own = speeds.estimate(decoder, weighed, runtime, power, context=need.context, users=users)
        total = replace(own, total_tok_s=own.user_tok_s * need.users)
        sequences = replicas * _sequences(room, share, one / parallel)
        yield replace(
            start, memory=share, speed=total, room_bytes=room,
            parallel=parallel, replicas=replicas, sequences=sequences,
        )  # fmt: skip


def divides(candidate: Candidate, parallel: int) -> bool:
    """Check whether so many GPUs can share every layer's heads."""
    return all(
        each.head_count % parallel == 0
        and (each.kv_head_count % parallel == 0 or parallel % each.kv_head_count == 0)
        for each in candidate.model.decoder.attentions
    )


def _sequences(room_bytes: float, memory: Memory, one_bytes: float) -> int:
    """Count the texts of full length that fit next to the weights."""
    left = room_bytes / (1 + memory.error) - memory.weights_bytes - memory.runtime_bytes
    return max(0, int(left / one_bytes)) if one_bytes else 1


def _measured_memory(candidate: Candidate, runtime: Runtime, need: Need) -> Memory | None:
    """Take a report's peak where it was one text of at least this length, in this runtime."""
    result = candidate.found.result if candidate.found else None
    if result is None or result.memory is None or result.opened is None or need.users > 1:
        return None
    if result.opened.runtime != runtime.verified_by or result.opened.context < need.context:
        return None
    weights = float(result.size_bytes or 0)
    rest = max(0.0, result.memory.peak_rss_bytes - weights)
    return Memory(weights, 0.0, rest, 0.0, is_measured=True)


def _measured_speed(candidate: Candidate, runtime: Runtime, machine: Machine, need: Need) -> Speed | None:
    """Take a report's speed where it was measured on this very kind of machine."""
    for found in candidate.reports if machine.name == "here" and need.users == 1 else ():
        speed, opened = found.result.speed, found.result.opened
        if speed is None or speed.decode_tok_s is None or opened is None:
            continue
        if (found.machine, found.cores, opened.runtime) == (
            machine.title,
            machine.cores,
            runtime.verified_by,
        ):
            decode_tok_s = speed.decode_tok_s.median
            return Speed(decode_tok_s, decode_tok_s, speed.ttft_s.median, 0.0, is_measured=True)
    return None


def _faults(fitted: Fit, machine: Machine, need: Need) -> Iterator[str]:
    """Say why a candidate cannot be the answer, whatever the room."""
    candidate, runtime, model = fitted.candidate, fitted.runtime, fitted.candidate.model
    if candidate.is_failed:
        yield candidate.state
    if need.language and model.languages is not None and need.language not in model.languages:
        yield f"does not speak {need.language}"
    if need.context > model.decoder.context_length:
        yield f"reads {model.decoder.context_length:,} tokens"
    if not model.is_chat:
        yield "continues texts, does not chat"
    if runtime.systems and machine.os not in runtime.systems:
        yield f"{runtime.title} is not for {machine.os}"
    for begin, needed in runtime.needs.items():
        if candidate.target.startswith(begin) and machine.gpu and needed not in machine.gpu.types:
            yield f"{machine.gpu.title} has no {needed}"
    kl = fitted.expected_kl if candidate.kl is None else candidate.kl
    if need.max_kl is not None and kl > need.max_kl:
        yield f"KL {kl:.3f}{'' if candidate.kl is not None else ' ~'}"
    if fitted.speed.user_tok_s < need.min_speed:
        yield f"{fitted.speed.user_tok_s:.1f} tok/s {TOO_SLOW}"
