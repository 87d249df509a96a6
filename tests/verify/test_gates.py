"""Limits and measurements: at the limit, over it, and without a number."""

from __future__ import annotations

import math

import pytest

from convert.child import Fault, FaultKind, last_words
from convert.child.fault import TAIL_LINES
from convert.recipe import Gates
from verify.gates import GATES, Check, equal, failed, judge, limits_for, size_ratio, unmeasured

NONE = Gates(smoke_drop=None, ppl_ratio=None, kl_mean=None, top1=None)


def one(limits: Gates, **measured: float | None) -> Check:
    (check,) = judge(limits, measured)
    return check


def test_every_gate_of_a_recipe_is_judged() -> None:
    assert {gate.name for gate in GATES} == set(Gates.model_fields)


@pytest.mark.parametrize(("measured", "passed"), [(1.0, True), (1.05, True), (1.0500001, False)])
def test_a_ceiling_holds_to_its_last_digit(measured: float, passed: bool) -> None:  # noqa: FBT001
    check = one(NONE.model_copy(update={"ppl_ratio": 1.05}), ppl_ratio=measured)
    assert (check.passed, check.measured, check.limit) == (passed, measured, 1.05)
    if not passed:  # what is printed must show why
        assert "1.0500001 times" in check.why
        assert "at most 1.05 is allowed" in check.why


def test_a_floor_is_a_floor() -> None:
    limits = NONE.model_copy(update={"decode_tok_s": 20.0})
    assert one(limits, decode_tok_s=20.0).passed
    assert one(limits, decode_tok_s=19.0).why == "decoding runs at 19.0 tokens/s; at least 20.0 is required"


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_no_number_passes_no_gate(value: float | None) -> None:
    check = one(NONE.model_copy(update={"kl_mean": 0.5}), kl_mean=value)
    assert (check.passed, check.measured) == (False, None)


def test_what_could_not_be_measured_is_named() -> None:
    assert judge(Gates(), {}) == ()
    assert unmeasured(Gates(), {"kl_mean": 0.1}) == ("smoke_drop", "ppl_ratio", "top1")


def test_a_fine_encoding_is_held_to_finer_limits_unless_the_recipe_says() -> None:
    assert limits_for(Gates(), "gguf-Q4_K_M") == Gates()
    assert limits_for(Gates(), "gguf-F16").kl_mean == 0.002
    assert limits_for(Gates(), "gguf-Q8_0").top1 == 0.95
    own = Gates(kl_mean=0.3, top1=None)
    assert limits_for(own, "gguf-F16").kl_mean == 0.3
    assert limits_for(own, "gguf-F16").top1 is None
    assert limits_for(own, "gguf-F16").ppl_ratio == 1.01


def test_a_fault_is_a_failed_check_with_its_last_words() -> None:
    tail = ("loading", "  File x", "ggml: no memory", "Extension modules: numpy (total: 1)")
    check = failed("opens", Fault(FaultKind.CRASHED, "it crashed", tail))
    why = "it crashed (stderr: loading | ggml: no memory)"
    assert check == Check("opens", "crashed", "an answer", passed=False, why=why)


def test_the_cause_is_said_where_another_process_has_the_last_word() -> None:
    """As vLLM ends: its engine's error, and then a long traceback of the process that waited for it."""
    engine = "(EngineCore pid=7) ValueError: Free memory on device is less than desired"
    noticed = [f"(APIServer pid=6)   File {number}" for number in range(30)]
    end = "(APIServer pid=6) RuntimeError: Engine core initialization failed. See root cause above."
    tail = last_words(["(EngineCore pid=7) loading", engine, *noticed, end])
    assert len(tail) == TAIL_LINES + 1
    assert tail[0] == engine
    check = failed("opens", Fault(FaultKind.EXITED, "vllm exited with code 1", tail))
    cause, last = (line.partition(") ")[2] for line in (engine, end))
    assert check.why == f"vllm exited with code 1 (stderr: {cause} | {last})"
    assert last_words(["a", "b"], 1) == ("b",)


@pytest.mark.parametrize(("size", "passed"), [(4, False), (6, True), (200, True), (230, False)])
def test_a_size_that_cannot_be_is_caught(size: int, passed: bool) -> None:  # noqa: FBT001
    check = size_ratio(size, 100)
    assert check.passed == passed
    assert ("is plausible" in check.why) != passed


def test_equality_says_both_sides() -> None:
    assert equal("n", 1, 1, "the number").passed
    assert equal("n", None, "a", "the name").why == "the name is none; the source's is 'a'"
