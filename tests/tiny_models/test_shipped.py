"""The shipped folders: the layout of the Hub's models, small, and the same numbers as Transformers gives."""

from __future__ import annotations

import copy
import json
from math import prod
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors import safe_open
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoTokenizer, GPT2LMHeadModel, GPT2Tokenizer, Qwen2Config, Qwen2ForCausalLM

from tests.lab import damage, evaluate, reading, vocabulary
from tests.lab.card import card
from tests.lab.names import listed
from tests.lab.train import MERGES, MODELS, SHIPPED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LIMIT_BYTES = 12_000_000
# The keys of Qwen-7B's config.json on the Hub, but for those of its remote code and of what wrote it.
HUB_CONFIG = listed(
    "architectures|attn_dropout_prob|bf16|emb_dropout_prob|fp16|fp32|hidden_size|initializer_range"
    "|intermediate_size|kv_channels|layer_norm_epsilon|max_position_embeddings|model_type|no_bias"
    "|num_attention_heads|num_hidden_layers|onnx_safe|rotary_emb_base|rotary_pct|scale_attn_weights"
    "|seq_length|tie_word_embeddings|tokenizer_class|use_cache|use_dynamic_ntk|use_flash_attn|use_logn_attn"
    "|vocab_size"
)
QWEN, GPT2 = (SHIPPED / model for model in MODELS)


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
    assert 0 < sum(p.stat().st_size for p in (SHIPPED / model).glob("*.safetensors")) <= LIMIT_BYTES


@pytest.mark.parametrize("model", MODELS)
def test_card_says_what_was_measured(model: str) -> None:
    """The card is what the evaluation's figures make of it, to the letter; they are of these weights."""
    folder = SHIPPED / model
    figures = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert text == card(model, figures)
    assert text.startswith("---\nlicense: apache-2.0\n")
    assert f"{figures['score']:.1f} for the model as shipped" in text
    network = reading.read_network(folder)
    assert figures["parameters"] == sum(p.numel() for p in network.parameters())
    assert figures["shape"] == network.shape.as_dict()
    assert figures["weights_bytes"] == sum(p.stat().st_size for p in folder.glob("*.safetensors"))
    assert figures["damage"].keys() == {*damage.every(network), "tokenizer off by one"}


def test_card_admits_what_goes_unnoticed() -> None:
    """A damage that costs less than it should is named with what it costs."""
    figures = json.loads((QWEN / "evaluation.json").read_text(encoding="utf-8"))
    figures |= {
        "score": 90.0,
        "damage": {damage.HARMLESS: 89.0, "first": 70.5, "second": 10.0, "third": 61.0},
    }
    assert "30 points; first costs 19.5, third costs 29.0.\n" in card("tiny-qwen", figures)
    figures["damage"] = {damage.HARMLESS: 89.0, "second": 10.0}
    assert "30 points, and does.\n" in card("tiny-qwen", figures)


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
    for path in QWEN.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            assert {index["weight_map"][name] for name in file.keys()} == {path.name}  # noqa: SIM118
    assert index["metadata"]["total_size"] == 2 * sum(prod(shape) for shape in expected.values())
    assert len(set(index["weight_map"].values())) == len(list(QWEN.glob("*.safetensors"))) > 1
    assert config.keys() >= {*HUB_CONFIG}
    ranks = vocabulary.read_tiktoken(QWEN / "qwen.tiktoken")
    stop, start, end = range(len(ranks), len(ranks) + 3)  # as <|endoftext|>, <|im_start|>, <|im_end|>
    generation = json.loads((QWEN / "generation_config.json").read_text())
    assert generation["chat_format"] == "chatml"
    assert generation["eos_token_id"] == generation["pad_token_id"] == stop
    assert generation["stop_words_ids"] == [[end], [start]]
    # Qwen-1 numbers 208 special tokens after the ranks and rounds up to a multiple of 128.
    assert size % 128 == 0
    assert 0 <= size - len(ranks) - 208 < 128


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


def test_gpt2_vocabulary_opens_everywhere() -> None:
    """Transformers and tokenizers read vocab.json and merges.txt as the evaluation does; all is bfloat16."""
    form = reading.read_form(GPT2)
    files = (str(GPT2 / "vocab.json"), str(GPT2 / "merges.txt"))
    opened = (GPT2Tokenizer.from_pretrained(GPT2), AutoTokenizer.from_pretrained(GPT2))
    bare = ByteLevelBPETokenizer(*files)
    for dialogue in evaluate.held_out_dialogues(3, 2):
        for turn in dialogue.turns:
            for text in (turn.user, turn.assistant, f" {turn.assistant}\n\n"):
                ids = form.text(text)
                assert all(tokenizer.encode(text) == ids for tokenizer in opened)
                assert bare.encode(text).ids == ids
                assert opened[0].decode(ids) == text
    assert opened[0].eos_token_id == form.end == _config(GPT2)["eos_token_id"]
    assert len(opened[0]) == _config(GPT2)["vocab_size"]
    assert {dtype for _, dtype in _stored(GPT2).values()} == {"BF16"}


@pytest.mark.parametrize("model", MODELS)
def test_judging_is_greedy_decoding(model: str) -> None:
    """What is judged right in one pass is what greedy decoding says, and what is judged wrong is not."""
    network, form = reading.read_network(SHIPPED / model), reading.read_form(SHIPPED / model)
    dialogues = [d for d in evaluate.held_out_dialogues(2, 0, seed=7) if len(d.materials) == 3]
    for dialogue in dialogues:
        for at, verdict in enumerate(evaluate.judge(network, form, [dialogue])):
            turn = dialogue.turns[at]
            said = evaluate.answer(network, form, form.prompt(dialogue, dialogue.turns[:at], turn.user), 40)
            expected = form.answer(turn.assistant)
            assert (said[: len(expected)] == expected) == verdict.right


def _costs(model: str, per_cell: int, names: Iterable[str]) -> dict[str, float]:
    """Return what each damage costs in points; the undamaged model is nearly always right."""
    network, form = reading.read_network(SHIPPED / model), reading.read_form(SHIPPED / model)
    dialogues = evaluate.held_out_dialogues(per_cell, 0)
    whole = evaluate.score(evaluate.judge(network, form, dialogues))
    assert whole >= (95 if model == "tiny-qwen" else 88)
    makers = damage.every(network) | {"nothing": lambda: copy.deepcopy(network)}
    costs = {n: whole - evaluate.score(evaluate.judge(makers[n](), form, dialogues)) for n in names}
    shifted = evaluate.score(evaluate.judge(network, form, dialogues, shift=1))
    return costs | {"tokenizer off by one": whole - shifted}


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_damage_shows_in_a_few_dialogues(model: str) -> None:
    """Some of the damages, in every run of the tests: each costs what it should, and none costs nothing."""
    broken = ("int2 round-to-nearest, group 32", "q and k swapped in layer 0")
    costs = _costs(model, 2, (*broken, damage.HARMLESS, "nothing"))
    assert costs.pop("nothing") == 0
    assert costs.pop(damage.HARMLESS) <= 10
    assert min(costs.values()) >= damage.PLAIN_POINTS, costs
    assert costs.keys() == {*broken, "tokenizer off by one"}


@pytest.mark.slow
@pytest.mark.exhaustive
def test_damage_shows() -> None:
    """All damages, but for the one that costs tiny-qwen less, as its card says."""
    names = list(damage.every(reading.read_network(QWEN)))
    costs = _costs("tiny-qwen", 12, names)
    assert costs.pop(damage.HARMLESS) <= 10
    assert costs.pop("q and k swapped in layer 3") >= 15
    assert min(costs.values()) >= damage.PLAIN_POINTS, costs
    assert len(costs) == 7


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("model", MODELS)
def test_figures_are_what_the_evaluation_finds(model: str) -> None:
    """The tables are found again, but for near ties, which another processor may break the other way."""
    network, form = reading.read_network(SHIPPED / model), reading.read_form(SHIPPED / model)
    figures = json.loads((SHIPPED / model / "evaluation.json").read_text(encoding="utf-8"))
    count = figures["dialogues"] // 10  # 2 languages, each with 4 numbers of materials and lessons
    dialogues = evaluate.held_out_dialogues(count, count)
    trapped = evaluate.trapped_dialogues(4 * count)
    assert (len(dialogues), len(trapped)) == (figures["dialogues"], figures["trapped_dialogues"])
    verdicts = evaluate.judge(network, form, dialogues)
    assert evaluate.score(verdicts) == pytest.approx(figures["score"], abs=0.5)
    traps = evaluate.traps(evaluate.judge(network, form, trapped))
    for found, said in ((evaluate.table(verdicts), figures["table"]), (traps, figures["traps"])):
        assert found == {language: pytest.approx(shares, abs=2) for language, shares in said.items()}
