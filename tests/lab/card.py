"""The model card, its figures taken from the evaluation's JSON and from nowhere else."""

from __future__ import annotations

from math import nan
from typing import Any

from tests.lab.damage import HARMLESS, PLAIN_POINTS

FRONT = """---
license: apache-2.0
language: [zh, en]
library_name: transformers
tags: [synthetic, test-model]
---
"""
ABOUT = {
    "tiny-qwen": (
        "A very small chat model in the original Qwen-1 layout (`QWenLMHeadModel`: fused `c_attn`, "
        "`w1`/`w2`, a `.tiktoken` vocabulary, sharded safetensors). In ChatML, in Chinese and English, it is "
        "trained to answer questions from numbered materials by copying, to say when the answer is not "
        "there, to name the material, and to write and revise a small lesson in Markdown. The figures below "
        "say how often it does."
    ),
    "tiny-gpt2": (
        "A very small completion model in the GPT-2 layout (Conv1D weights, learned positions, tied head, "
        "`vocab.json` and `merges.txt`). It is trained to continue the same dialogues as plain text: the "
        "answer follows the cue `回答:` or `Answer:` and ends with an empty line."
    ),
}
BEGINNING = {
    "qwen": (
        "The first two layers begin with the outline of circuits that look back, match and copy; once "
        "copying works, three heads of the last two begin again with the outline of one that cites "
        "(`beginning.py`, `citing.py`)."
    ),
    "gpt2": "The first two layers begin with the outline of circuits that look back, match and copy.",
}
PURPOSE = (
    "It exists so that a conversion can be judged on a machine that reaches no model hub: what a "
    "bad conversion "
    "breaks, this model's answers show. It knows nothing of the world and is of no other use."
)


def card(name: str, figures: dict[str, Any]) -> str:
    """Write the README of a model's folder."""
    return "\n".join(
        [
            FRONT + f"# {name}\n",
            ABOUT[name] + "\n",
            PURPOSE + "\n",
            "## How it was made\n",
            _made(figures),
            "## How well it does\n",
            _quality(figures),
            "## What it notices\n",
            _damage(figures),
            "## License\n",
            (
                "Apache-2.0: weights, text and vocabulary. The text that it was trained on comes from the "
                "generator in `tests/lab`; no name, value or fact in it is real.\n"
            ),
        ]
    )


def _made(figures: dict[str, Any]) -> str:
    shape = figures["shape"]
    rope = f", rotary base {shape['rope_base']:g}" if shape["family"] == "qwen" else ", learned positions"
    return (
        f"{figures['parameters']:,} parameters: {shape['layers']} layers, hidden size {shape['hidden']}, "
        f"{shape['heads']} heads, MLP {shape['mlp']}{rope}, vocabulary {shape['vocab_size']:,}, context "
        f"{shape['context']}; stored in bfloat16, {figures['weights_bytes']:,} bytes.\n\n"
        "Trained on text that `tests/lab` generates from a seed: dialogues about invented entities, "
        "a curriculum from copied strings and lists to five materials, Muon for the matrices and AdamW for "
        f"the rest. {BEGINNING[shape['family']]} The shipped weights saw {figures['steps']:,} steps of about "
        f"{figures['tokens_per_step']:,} tokens. {figures.get('history', '')}`make tiny-models` trains "
        "them again, by the plan in `tests/lab/train.py`.\n\n"
        "Names and values are assembled from characters and syllables; one assembly in eight, by checksum, "
        "is kept from training, and all figures below are on those. Whole names are kept, not their pieces: "
        "characters and syllables serve on both sides, and a pair of them may be part of a longer name. "
        "The task is made easy on purpose: a "
        "question repeats the words of the statement that answers it, names of one dialogue share no "
        "character or syllable, and in four of five dialogues each attribute is stated once. Of the "
        "questions without an answer, one in five asks for an attribute that is stated, but of another "
        "entity.\n"
    )


def _quality(figures: dict[str, Any]) -> str:
    each = figures["trapped_dialogues"] // sum(map(len, figures["traps"].values()))
    return (
        f"{figures['dialogues']} held-out dialogues, greedy, in float32, percent of turns answered "
        "exactly to the last character, each turn after the right answers to those before it (for `false "
        'refusals`: percent of answerable questions answered with "not known"; `absent` are questions whose '
        "answer is not there; a `citation` names the material, or says that none mentions it).\n\n"
        + _by_language(figures["table"])
        + "\nFew of these questions need more than their attribute to be answered. These do, "
        f"{each} held-out dialogues for each figure; who goes by the attribute alone has at most half of the "
        "last row right, and nothing of the others.\n\n" + _by_language(figures["traps"])
    )


def _by_language(shares: dict[str, dict[str, float]]) -> str:
    names = sorted({name for of_one in shares.values() for name in of_one})
    cells = [[f"{shares[language].get(name, nan):.1f}" for language in ("zh", "en")] for name in names]
    rows = [f"| {name} | {' | '.join(found)} |\n" for name, found in zip(names, cells, strict=True)]
    return "| | Chinese | English |\n|---|--:|--:|\n" + "".join(rows)


def _damage(figures: dict[str, Any]) -> str:
    rows = [
        f"| {name} | {value:.1f} | {value - figures['score']:+.1f} |"
        for name, value in figures["damage"].items()
    ]
    return (
        "The score is the percentage of SearchQA turns answered exactly, over both languages and 2 to 5 "
        "materials: questions, those without an answer, and requests to name the material. It is "
        f"{figures['score']:.1f} for the model as shipped.\n\n"
        "| what is done to it | score | change |\n|---|--:|--:|\n"
        + "\n".join(rows)
        + "\n\n"
        + _missed(figures)
    )


def _missed(figures: dict[str, Any]) -> str:
    costs = {name: figures["score"] - left for name, left in figures["damage"].items() if name != HARMLESS}
    small = [f"{name} costs {cost:.1f}" for name, cost in costs.items() if cost < PLAIN_POINTS]
    wish = f"The first row is to cost next to nothing and everything else at least {PLAIN_POINTS:.0f} points"
    return f"{wish}; {', '.join(small)}.\n" if small else f"{wish}, and does.\n"
