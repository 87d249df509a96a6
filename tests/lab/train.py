"""Train, evaluate and export the tiny models. `all` does everything, from the vocabulary to the cards."""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from convert.errors import Failure
from tests.lab import damage, evaluate, export, reading, searchqa, vocabulary
from tests.lab.card import card
from tests.lab.network import Network, Shape
from tests.lab.training import Plan, train

MODELS = ("tiny-qwen", "tiny-gpt2")
SHIPPED = Path(__file__).resolve().parents[2] / "recipes" / "models"
MERGES = 600
MLP, BASE = 256, 1000.0
PLANS = {"tiny-qwen": Plan(steps=5900, decay_steps=1050), "tiny-gpt2": Plan(steps=5900, decay_steps=1500)}


def main() -> None:
    """Read the arguments and do what they ask."""
    args = _parser().parse_args()
    torch.set_num_threads(getattr(args, "threads", 1))
    try:
        _do(args)
    except Failure as failure:
        sys.exit(f"error: {failure.message}\nhint:  {failure.hint}")


def _do(args: argparse.Namespace) -> None:
    if args.task == "dialogues":
        print_dialogues(args.count)
    for model in MODELS if args.task == "all" else [getattr(args, "model", "")]:
        if args.task in {"all", "train"}:
            run_training(model, args)
        if args.task in {"all", "export"}:
            run_export(model, args.work, args.out, getattr(args, "history", ""))
        if args.task in {"all", "evaluate"}:
            run_evaluation(model, args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    tasks = parser.add_subparsers(dest="task", required=True)
    for task, what in (
        ("all", "train, export, evaluate and write the card of each model"),
        ("train", "train one model, or continue from its saved state"),
        ("export", "write a trained model's folder from its saved state"),
        ("evaluate", "evaluate a folder, and write its evaluation.json and card"),
        ("dialogues", "print held-out SearchQA dialogues, one JSON object per line"),
    ):
        sub = tasks.add_parser(task, help=what, description=what)
        if task in {"train", "export", "evaluate"}:
            sub.add_argument("model", choices=MODELS)
        if task in {"all", "train", "export"}:
            sub.add_argument("--work", type=Path, required=True, help="folder for the states of training")
        if task == "export":
            sub.add_argument("--history", default="", help="text about its training for the card")
        if task in {"all", "train"}:
            sub.add_argument("--start", type=Path, help="folder of models to start from, with any vocabulary")
            sub.add_argument("--steps", type=int, help="number of steps, instead of the plan's")
            sub.add_argument("--rate", type=float, help="the full learning rate")
            sub.add_argument("--decay-steps", type=int, help="how many of the last steps have a falling rate")
        if task in {"all", "export", "evaluate"}:
            sub.add_argument("--out", type=Path, default=SHIPPED, help="folder of the models' folders")
        if task in {"all", "train", "evaluate"}:
            sub.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
            sub.add_argument("--threads", type=int, default=1, help="CPU threads")
        if task in {"all", "evaluate", "dialogues"}:
            each = "dialogues per language and number of materials, and a quarter of those per trap"
            sub.add_argument("--count", type=int, default=75, help=each)
    return parser


def print_dialogues(count: int) -> None:
    """Print held-out dialogues, from which a scenario can be made."""
    for language in evaluate.LANGUAGES:
        for materials in evaluate.MATERIALS:
            for dialogue in searchqa.held_out(count, 1, language, materials):
                print(json.dumps(asdict(dialogue), ensure_ascii=False))


def shape_of(model: str, ranks: vocabulary.Ranks) -> Shape:
    """Return the sizes of a model for a vocabulary; Qwen-1 pads it to a multiple of 128."""
    if model == "tiny-qwen":
        return Shape(
            "qwen", -(-(len(ranks) + len(vocabulary.QWEN_SPECIALS)) // 128) * 128, mlp=MLP, rope_base=BASE
        )
    return Shape("gpt2", len(ranks) + len(vocabulary.GPT2_SPECIALS), mlp=1024, epsilon=1e-5)


def run_training(model: str, args: argparse.Namespace) -> None:
    """Learn the vocabulary if there is none, and train."""
    args.work.mkdir(parents=True, exist_ok=True)
    ranks_path = args.work / "qwen.tiktoken"
    if not ranks_path.exists():
        vocabulary.write_tiktoken(vocabulary.learn(MERGES), fresh := ranks_path.with_suffix(".new"))
        fresh.replace(ranks_path)  # half of a vocabulary would look like a whole one
    ranks = vocabulary.read_tiktoken(ranks_path)
    plan = replace(
        PLANS[model],
        **{name: getattr(args, name) for name in ("steps", "decay_steps", "rate") if getattr(args, name)},
    )
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"{model} {time.monotonic() - start:7.0f} s  {line}", flush=True)

    train(
        shape=shape_of(model, ranks),
        ranks=ranks,
        plan=plan,
        state_path=args.work / f"{model}.pt",
        start=_read_start(args.start / model, ranks) if args.start else None,
        device=args.device,
        say=say,
    )


def _read_start(folder: Path, ranks: vocabulary.Ranks) -> Network:
    """Read a shipped network, moved to the vocabulary of this training."""
    network, form = reading.read_network(folder), reading.read_form(folder)
    tokens = [form.encoding.decode_single_token_bytes(i) for i in range(form.encoding.n_vocab)]
    specials = tokens[-len(form.encoding.special_tokens_set) :]
    return reading.revocab(network, tokens, [*ranks, *specials], shape_of(folder.name, ranks).vocab_size)


def run_export(model: str, work: Path, out: Path, history: str) -> None:
    """Write the folder in its public layout."""
    state = torch.load(work / f"{model}.pt", weights_only=True, map_location="cpu")
    network = Network(Shape(**state["shape"]))
    network.load_state_dict(state["network"])
    ranks = vocabulary.read_tiktoken(work / "qwen.tiktoken")
    write = export.write_qwen if model == "tiny-qwen" else export.write_gpt2
    write(network, ranks, out / model)
    made = {"steps": state["step"], "tokens_per_step": PLANS[model].tokens_per_step, "history": history}
    (out / model / "evaluation.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


def run_evaluation(model: str, args: argparse.Namespace) -> None:
    """Judge the shipped folder, and every damage to it."""
    folder: Path = args.out / model
    path = folder / "evaluation.json"
    network, form = reading.read_network(folder).to(args.device), reading.read_form(folder)
    dialogues = evaluate.held_out_dialogues(args.count, args.count)
    verdicts = evaluate.judge(network, form, dialogues)
    questions = [dialogue for dialogue in dialogues if dialogue.materials]
    trapped = evaluate.trapped_dialogues(len(evaluate.MATERIALS) * args.count)
    figures: dict[str, Any] = {
        **(json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}),
        "shape": network.shape.as_dict(),
        "parameters": sum(p.numel() for p in network.parameters()),
        "weights_bytes": sum(p.stat().st_size for p in folder.glob("*.safetensors")),
        "dialogues": len(dialogues),
        "table": evaluate.table(verdicts),
        "trapped_dialogues": len(trapped),
        "traps": evaluate.traps(evaluate.judge(network, form, trapped)),
        "score": evaluate.score(verdicts),
        "damage": {},
    }
    for name, make in damage.every(network).items():
        figures["damage"][name] = evaluate.score(evaluate.judge(make(), form, questions))
        print(f"{name}: {figures['damage'][name]} of {figures['score']}", flush=True)
    shifted = evaluate.judge(network, form, questions, shift=1)
    figures["damage"]["tokenizer off by one"] = evaluate.score(shifted)
    path.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card(model, figures), encoding="utf-8")
    print(json.dumps({key: figures[key] for key in ("table", "traps")}, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
