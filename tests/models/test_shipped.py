"""The shipped folders: the layout of the Hub's models, small, and the same numbers as Transformers gives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from transformers import GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

from recipes.models.lab import damage, evaluate, reading, vocabulary
from recipes.models.train import HERE, MERGES, MODELS

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_BYTES = 12_000_000
QWEN, GPT2 = (HERE / model for model in MODELS)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def _config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def _stored(folder: Path) -> dict[str, tuple[list[int], str]]:
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                part = file.get_slice(name)
                found[name] = (part.get_shape(), part.get_dtype())
    return found


@pytest.mark.parametrize("model", MODELS)
def test_small_enough(model: str) -> None:
    """The weights of each model take at most 12 MB."""
    assert 0 < sum(p.stat().st_size for p in (HERE / model).glob("*.safetensors")) <= LIMIT_BYTES


@pytest.mark.parametrize("model", MODELS)
def test_card_says_what_was_measured(model: str) -> None:
    """The card gives the score and size that the evaluation wrote."""
    figures = json.loads((HERE / model / "evaluation.json").read_text(encoding="utf-8"))
    text = (HERE / model / "README.md").read_text(encoding="utf-8")
    assert f"{figures['score']:.1f} for the model as shipped" in text
    assert f"{figures['parameters']:,} parameters" in text
    assert text.startswith("---\nlicense: apache-2.0\n")


def test_qwen_layout() -> None:
    """Names, shapes and index are those of a QWenLMHeadModel; heads and MLP suit the K-quants."""
    config, stored = _config(QWEN), _stored(QWEN)
    assert (config["model_type"], config["architectures"]) == ("qwen", ["QWenLMHeadModel"])
    hidden, mlp, size = config["hidden_size"], config["intermediate_size"] // 2, config["vocab_size"]
    assert hidden % 256 == 0
    assert mlp % 256 == 0
    expected = {"transformer.wte.weight": [size, hidden], "lm_head.weight": [size, hidden]}
    expected["transformer.ln_f.weight"] = [hidden]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"transformer.h.{layer}"
        expected |= {
            f"{prefix}.ln_1.weight": [hidden],
            f"{prefix}.attn.c_attn.weight": [3 * hidden, hidden],
            f"{prefix}.attn.c_attn.bias": [3 * hidden],
            f"{prefix}.attn.c_proj.weight": [hidden, hidden],
            f"{prefix}.ln_2.weight": [hidden],
            f"{prefix}.mlp.w1.weight": [mlp, hidden],
            f"{prefix}.mlp.w2.weight": [mlp, hidden],
            f"{prefix}.mlp.c_proj.weight": [hidden, mlp],
        }
    assert {name: shape for name, (shape, _) in stored.items()} == expected
    assert {dtype for _, dtype in stored.values()} == {"BF16"}
    index = json.loads((QWEN / "model.safetensors.index.json").read_text(encoding="utf-8"))
    assert set(index["weight_map"]) == set(expected)
    assert len(set(index["weight_map"].values())) == len(list(QWEN.glob("*.safetensors"))) > 1
    assert json.loads((QWEN / "generation_config.json").read_text())["chat_format"] == "chatml"


def test_vocabulary_is_reproducible() -> None:
    """Learning it again gives the shipped file; GPT-2's spelling says the same."""
    ranks = vocabulary.read_tiktoken(QWEN / "qwen.tiktoken")
    assert ranks == vocabulary.learn(MERGES)
    assert reading.read_vocab_json(GPT2 / "vocab.json") == ranks
    merges = (GPT2 / "merges.txt").read_text(encoding="utf-8").splitlines()
    assert len(merges) == len(ranks) - 256 + 1


def test_qwen_is_qwen2_by_other_names() -> None:
    """Relabelled, Transformers' Qwen2 gives the same logits as the network that was trained."""
    config, network, form = _config(QWEN), reading.read_network(QWEN), reading.read_form(QWEN)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"] // 2,
            num_hidden_layers=config["num_hidden_layers"],
            num_attention_heads=config["num_attention_heads"],
            num_key_value_heads=config["num_attention_heads"],
            rms_norm_eps=config["layer_norm_epsilon"],
            rope_parameters={"rope_type": "default", "rope_theta": config["rotary_emb_base"]},
            tie_word_embeddings=False,
        )
    ).eval()
    state = {
        "model.embed_tokens.weight": network.embed.weight,
        "model.norm.weight": network.norm.weight,
        "lm_head.weight": network.head.weight,
    }
    for index, block in enumerate(network.layers):
        prefix = f"model.layers.{index}"
        parts = {"q": block.attention.q, "k": block.attention.k, "v": block.attention.v}
        for name, part in parts.items():
            state[f"{prefix}.self_attn.{name}_proj.weight"] = part.weight
            state[f"{prefix}.self_attn.{name}_proj.bias"] = part.bias
        state |= {
            f"{prefix}.self_attn.o_proj.weight": block.attention.out.weight,
            f"{prefix}.mlp.gate_proj.weight": block.gate.weight,
            f"{prefix}.mlp.up_proj.weight": block.up.weight,
            f"{prefix}.mlp.down_proj.weight": block.down.weight,
            f"{prefix}.input_layernorm.weight": block.norm_1.weight,
            f"{prefix}.post_attention_layernorm.weight": block.norm_2.weight,
        }
    model.load_state_dict(state)
    ids = torch.tensor([form.sample(evaluate.held_out_dialogues(1, 1)[0])[0]])
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, network.head(network(ids)), atol=2e-3, rtol=1e-3)


def test_gpt2_is_gpt2() -> None:
    """Transformers opens the folder as it is and gives the same logits."""
    network, form = reading.read_network(GPT2), reading.read_form(GPT2)
    model = GPT2LMHeadModel.from_pretrained(GPT2, dtype=torch.float32).eval()
    ids = torch.tensor([form.sample(evaluate.held_out_dialogues(1, 1)[0])[0]])
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, network.head(network(ids)), atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("model", MODELS)
def test_judging_is_greedy_decoding(model: str) -> None:
    """What is judged right in one pass is what greedy decoding says, and what is judged wrong is not."""
    network, form = reading.read_network(HERE / model), reading.read_form(HERE / model)
    dialogues = [d for d in evaluate.held_out_dialogues(2, 0, seed=7) if len(d.materials) == 3]
    for dialogue in dialogues:
        for at, verdict in enumerate(evaluate.judge(network, form, [dialogue])):
            turn = dialogue.turns[at]
            said = evaluate.answer(network, form, form.prompt(dialogue, dialogue.turns[:at], turn.user), 40)
            expected = form.answer(turn.assistant)
            assert (said[: len(expected)] == expected) == verdict.right


@pytest.mark.slow
def test_damage_shows() -> None:
    """The model answers; int4 keeps nine answers in ten, and a broken conversion loses thirty points."""
    network, form = reading.read_network(QWEN), reading.read_form(QWEN)
    dialogues = evaluate.held_out_dialogues(12, 0)
    whole = evaluate.score(evaluate.judge(network, form, dialogues))
    assert whole >= 95
    makers = damage.every(network)
    kept = evaluate.score(evaluate.judge(makers["int4 round-to-nearest, group 32"](), form, dialogues))
    assert kept >= 0.9 * whole
    for name in (
        "int2 round-to-nearest, group 32",
        "q and k swapped in layer 0",
        "q and k swapped in layer 1",
        "q and k swapped in layer 2",
        "gate and up swapped",
        "RoPE base x 10",
    ):
        assert evaluate.score(evaluate.judge(makers[name](), form, dialogues)) <= whole - 30, name
    assert evaluate.score(evaluate.judge(network, form, dialogues, shift=1)) <= whole - 30


@pytest.mark.slow
def test_gpt2_answers() -> None:
    """The other model is weaker, but far from chance."""
    network, form = reading.read_network(GPT2), reading.read_form(GPT2)
    assert evaluate.score(evaluate.judge(network, form, evaluate.held_out_dialogues(12, 0))) >= 88
