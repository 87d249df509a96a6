"""The people who come to choose: a machine and a need, and the kind of answer, its command and its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from convert.cli import choice
from convert.errors import UsageFailure
from convert.pick import commands, page
from convert.pick.candidate import gather
from convert.pick.fit import divides
from convert.pick.machine import overridden
from convert.pick.need import Need
from convert.pick.page import between
from convert.pick.profile import find_machine
from convert.pick.rank import Answer, rank
from convert.pick.runtime import Runtime, find_runtime
from convert.pick.sentence import reason

NOWHERE = Path("nowhere")


def chosen(machine: str, need: Need, *recipes: str, **parts: str) -> Answer:
    return rank(gather(recipes, NOWHERE), overridden(find_machine(machine), parts), need)


def written(answer: Answer) -> str:
    return "\n".join(choice.lines(answer))


def test_a_laptop_gets_a_gguf_for_ollama_that_leaves_room() -> None:
    found = chosen("laptop-8gb", Need(language="zh", min_speed=3), "qwen2.5-7b", "smollm3-3b", "qwen-1_8b")
    best = found.answer
    assert best is not None
    assert (best.candidate.label, best.candidate.target) == ("qwen-1_8b", "gguf-Q8_0")
    assert best.runtime_name == "ollama"
    assert best.memory.most_bytes < best.room_bytes
    text = written(found)
    assert "modelwright run qwen-1_8b --only gguf-Q8_0" in text
    assert "ollama create qwen-1_8b" in text
    assert "fits only with everything else closed" in text
    assert "does not speak zh" not in text.partition("why")[2].partition("\n\n")[0]
    assert all(each.fault == "does not speak zh" for each in found.fits if "smollm3" in each.candidate.label)


def test_budgets_are_expected_to_lose_what_the_largest_type_within_them_does(tmp_path: Path) -> None:
    path = tmp_path / "budgets.yaml"
    lines = "".join(f"  {name}: {{bpw: 6, size: 5GB}}\n" for name in ("gguf", "mlx", "compressed-tensors"))
    path.write_text(f"model: Qwen/Qwen2.5-7B-Instruct\ntargets:\n{lines}", "utf-8")
    candidates = gather([str(path)], NOWHERE)
    found = {each.target: each.quality_key for each in candidates}
    assert found == {
        "gguf-6bpw": "gguf-Q5_K_M",
        "gguf-5GB": "gguf-Q4_K_M",
        "mlx-6bpw": "mlx-5bit",
        "mlx-5GB": "mlx-4bit",
        "compressed-tensors-6bpw": "compressed-tensors-w4a16",
        "compressed-tensors-5GB": "compressed-tensors-w4a16",
    }
    fits = rank(candidates, find_machine("a100-80x1"), Need()).fits
    assert {each.expected_kl for each in fits if "compressed" in each.candidate.target} == {0.1019}


def test_a_gpu_gets_four_bits_for_vllm_where_sixteen_do_not_fit() -> None:
    found = chosen("rtx-3060", Need(context=8192), "qwen2.5-7b")
    best = found.answer
    assert best is not None
    assert (best.runtime_name, best.candidate.target) == ("vllm", "awq")
    assert best.sequences >= 1
    text = written(found)
    assert "modelwright run Qwen/Qwen2.5-7B-Instruct --to awq" in text
    assert "vllm serve artifacts/qwen2.5-7b-instruct/awq --max-model-len 8192" in text
    assert "of 8,192 tokens fit at once" in text


@pytest.mark.slow
def test_a_gpu_of_24_gb_gets_the_mixture_that_fits_in_four_bits() -> None:
    best = chosen("rtx-4090", Need(context=8192), "qwen3-30b-a3b", "qwen2.5-0.5b").answer
    assert best is not None
    assert (best.runtime_name, best.candidate.label, best.candidate.target) == (
        "vllm",
        "qwen3-30b-a3b",
        "awq",
    )


def test_gpus_share_what_one_has_no_room_for_and_hold_the_rest_in_replicas() -> None:
    need = Need(context=8192, users=8)
    whole = chosen("a100-80x4", need, "qwen2.5-7b")
    parted = chosen("a100-80x4", need, "qwen2.5-7b", vram="14GB")
    small, large = whole.answer, parted.answer
    assert small is not None
    assert large is not None
    assert (small.candidate.target, small.parallel, small.replicas) == ("hf", 1, 4)
    assert "tensor-parallel" not in commands.run(small, need)
    assert (large.candidate.target, large.parallel, large.replicas) == ("hf", 2, 2)
    assert "--tensor-parallel-size 2" in commands.run(large, need)
    assert "one GPU holds it: 4 replicas behind a load balancer" in reason(whole, small)
    assert "2 GPUs share it, as one has too little room, 2 times" in reason(parted, large)


def test_heads_must_divide_by_the_gpus_that_share_them() -> None:
    seven = gather(["qwen2.5-0.5b"], NOWHERE)[0]  # 14 heads
    assert [number for number in (1, 2, 4, 8) if divides(seven, number)] == [1, 2]


@pytest.mark.slow
def test_four_a100_share_a_large_model() -> None:
    need = Need(context=32768, users=32)
    best = chosen("a100-80x4", need, "qwen3.5-35b-a3b").answer
    assert best is not None
    assert (best.candidate.target, best.parallel, best.replicas) == ("hf", 2, 2)
    assert "--tensor-parallel-size 2" in commands.run(best, need)


@pytest.mark.parametrize(
    ("machine", "target", "fault"),
    [
        ("rtx-4090", "compressed-tensors-fp8", ""),
        ("h100-80x8", "compressed-tensors-fp8", ""),
        ("a100-80x1", "hf", "A100 80 GB has no fp8"),
    ],
)
def test_eight_bit_floats_are_for_gpus_that_have_them(machine: str, target: str, fault: str) -> None:
    found = chosen(machine, Need(users=8), "qwen2.5-0.5b")
    assert found.answer is not None
    assert (found.answer.runtime_name, found.answer.candidate.target) == ("vllm", target)
    faults = {each.fault for each in found.fits if each.candidate.target == "compressed-tensors-fp8"}
    assert faults == {fault}
    assert f"vllm serve artifacts/qwen2.5-0.5b-instruct/{target} " in written(found)


def test_the_lowest_latency_is_of_a_compiled_engine() -> None:
    found = chosen("a100-80x1", Need(goal="speed", max_kl=0.001), "qwen2.5-0.5b")
    assert found.answer is not None
    assert (found.answer.runtime_name, found.answer.candidate.target) == ("tensorrt-llm", "hf")
    assert "trtllm-serve artifacts/qwen2.5-0.5b-instruct/hf --max_seq_len 4096" in written(found)
    # For many it is vLLM, which is made for them.
    many = chosen("a100-80x1", Need(goal="speed", max_kl=0.001, users=50), "qwen2.5-0.5b").answer
    assert many is not None
    assert many.runtime_name == "vllm"


def test_a_browser_gets_a_folder_of_transformers_js() -> None:
    found = chosen("browser", Need(context=2048), "qwen2.5-0.5b", "qwen2.5-7b")
    best = found.answer
    assert best is not None
    assert (best.runtime_name, best.candidate.format_name) == ("transformers.js", "transformers.js")
    assert best.candidate.label == "qwen2.5-0.5b"
    text = written(found)
    precision = best.candidate.target.split("-")[1]
    assert f"modelwright run Qwen/Qwen2.5-0.5B-Instruct --to onnx:{precision},onnx:transformers.js" in text
    assert "npm install @huggingface/transformers" in text
    # The recipe's own ONNX is for onnxruntime-genai, which browsers do not have.
    assert "onnx" not in {each.candidate.format_name for each in found.fits}
    recipe = commands.recipe(best, "")
    assert "layout: transformers.js" in recipe


def test_a_phone_gets_a_small_model_in_a_type_with_kernels_for_arm() -> None:
    found = chosen("phone-8gb", Need(context=2048), "qwen2.5-7b", "lfm2-1.2b", "qwen2.5-0.5b")
    best = found.answer
    assert best is not None
    assert best.candidate.label == "lfm2-1.2b"
    assert best.candidate.target in {f"gguf-{quant}" for quant in ("Q4_0", "IQ4_NL", "Q4_K_M", "Q8_0")}
    assert {"gguf-Q4_0", "gguf-IQ4_NL"} <= {each.candidate.target for each in found.fits}
    assert "adb push" in written(found)
    assert "have kernels for Arm's dot products" in written(found)


def test_a_server_for_twenty_users_gets_slots_and_both_speeds() -> None:
    need = Need(users=20)
    found = chosen("server-16c", need, "qwen2.5-7b", "lfm2-1.2b")
    best = found.answer
    assert best is not None
    assert best.candidate.label == "lfm2-1.2b"
    assert best.speed.user_tok_s >= need.min_speed
    assert best.speed.total_tok_s == pytest.approx(20 * best.speed.user_tok_s)
    text = written(found)
    assert "-np 20 -c 81920" in text
    assert "tok/s each" in text


def test_a_mac_gets_mlx_or_a_gguf() -> None:
    found = chosen("macbook-16gb", Need(), "qwen2.5-0.5b")
    assert found.answer is not None
    assert (found.answer.runtime_name, found.answer.candidate.target) == ("mlx", "mlx-8bit")
    assert "--to mlx:8bit" in written(found)
    assert "mlx_lm.chat --model artifacts/qwen2.5-0.5b-instruct/mlx-8bit" in written(found)
    found = chosen("macbook-16gb", Need(), "qwen2.5-0.5b", runtime="ollama")
    assert found.answer is not None
    assert found.answer.candidate.format_name == "gguf"


def test_two_models_of_one_size_differ_by_their_caches() -> None:
    old = chosen("laptop-8gb", Need(min_speed=1), "qwen").fits
    new = chosen("laptop-8gb", Need(min_speed=1), "qwen2.5-7b").fits
    first, second = (
        next(one for one in fits if one.candidate.target == "gguf-Q4_K_M") for fits in (old, new)
    )
    assert first.memory.cache_bytes == 2 * 4096 * 32 * 32 * 128 * 2  # 2.15 GB
    assert second.memory.cache_bytes == 2 * 4096 * 28 * 4 * 128 * 2  # 0.23 GB
    assert first.memory.weights_bytes == pytest.approx(second.memory.weights_bytes, rel=0.06)
    assert first.why_not == "does not fit: 32 KV heads"
    slow = chosen("laptop-8gb", Need(min_speed=50), "qwen").fits
    assert {each.why_not for each in slow if each.candidate.target == "gguf-Q4_K_M"} == {first.why_not}
    assert second.spare_bytes > 0


def test_where_nothing_fits_the_nearest_says_what_would_have_to_give() -> None:
    found = chosen("laptop-8gb", Need(context=8192, min_speed=1), "qwen", ram="9GB")
    assert found.answer is None
    assert found.nearest is not None
    assert any("8k → " in each for each in found.gives)
    assert any(each.startswith("+") and "GB" in each for each in found.gives)
    assert "none  nearest: qwen gguf-Q4_K_M" in written(found)


def test_fewer_bits_are_offered_where_they_would_fit() -> None:
    found = chosen("laptop-8gb", Need(min_speed=1), "qwen2.5-7b", ram="7.5GB")
    assert found.answer is None
    assert "Q4_K_M → Q3_K_M" in found.gives


def test_a_file_that_cannot_be_read_is_not_taken_for_nothing_that_opens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert between([], find_runtime) is None

    def unreadable(_: str) -> Runtime:
        raise UsageFailure("x.yaml: cannot be read: input/output error")

    monkeypatch.setattr(page, "shipped_machine", unreadable)
    with pytest.raises(UsageFailure, match="input/output error"):
        between([], find_runtime)
