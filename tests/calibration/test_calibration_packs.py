"""The shipped packs: variety, the models' own styles, and nothing that verification asks."""

from __future__ import annotations

import hashlib
import json
import re
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import yaml

from convert.calibration import windows
from convert.calibration.dialogue import Dialogue
from convert.calibration.pack import REVISION, dialogues
from convert.calibration.stream import tokenize
from convert.errors import Failure
from convert.model.families import family
from convert.recipe.model import Calibration
from convert.tokenizer import Tokenizer, load
from tests.calibration.words import tokenizer as word_tokenizer
from verify.scenarios.loading import load as load_packs

ROOT = Path(__file__).resolve().parents[2]
BOTH = ("searchqa", "lessonpack")
# The design's own sentences, which name no topic: the scenarios and the packs may share them.
DESIGN = {
    "请把内容部分扩充，加入更多有趣的事实",
    "很好。请根据大纲撰写每一节的详细内容。",
    "将上一段文字用更简单的语言表述",
}


def settings(**changes: Any) -> Calibration:
    return Calibration.model_validate({"packs": BOTH, "samples": 8, "length": 256, **changes})


def byte_tokenizer(chat_template: str | None = None, **changes: Any) -> Tokenizer:
    """A token a byte, the markup of ChatML, and an end of text."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {letter: index for index, letter in enumerate([*alphabet, *specials])}
    encoder = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    encoder.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = tokenizers.decoders.ByteLevel()
    encoder.add_special_tokens(specials)
    values = {"json": encoder.to_str().encode(), "chat_template": chat_template, "eos_id": 256, **changes}
    return word_tokenizer(**{"unk_id": None, "bos_id": None, **values})


def text(cut: np.ndarray[Any, Any], made: Tokenizer) -> str:
    return str(tokenizers.Tokenizer.from_buffer(made.json).decode(cut.tolist(), skip_special_tokens=False))


def test_dialogues_change_with_the_revision_only() -> None:
    """Bump REVISION and renew the digest where another text is meant: artifacts are then built again."""
    made = [[each.messages(), each.continuation()] for each in islice(dialogues(BOTH, 0), 400)]
    found = hashlib.sha256(json.dumps(made).encode()).hexdigest()
    assert (REVISION, found) == (2, "b6c24f32d161d94718e5b1a9b5f0b34443f55dd0cfd8b280ebf6aca70dac1080")


def test_no_two_dialogues_are_alike() -> None:
    # About what 128 samples of 2048 tokens take, and more.
    made = [each.continuation() for each in islice(dialogues(BOTH, 0), 1200)]
    assert len(set(made)) == 1200
    assert sum(map(len, made)) > 900_000
    assert len({word for each in made for word in re.findall(r"\w+", each)}) > 3000
    assert made == [each.continuation() for each in islice(dialogues(BOTH, 0), 1200)]
    assert not set(made) & {each.continuation() for each in islice(dialogues(BOTH, 1), 1200)}


def test_every_slot_is_filled() -> None:
    for seed in range(3):
        for each in islice(dialogues(BOTH, seed), 400):
            assert not re.search(r"[{}]|\bNone\b(?! of)", each.continuation())


def test_answers_stand_in_the_materials_or_are_said_to_be_missing() -> None:
    cited = 0
    for each in islice(dialogues(("searchqa",), 0), 400):
        asked, *more = each.turns
        question = re.split("问题: |Question: ", asked[0])[1]
        is_unknown = re.match("不知道|根据现有资料无法|I don't know|The materials do not", asked[1])
        if more and "资料得出" in more[0][0]:
            number = re.search(r"资料(\d)|第(\d)个", more[0][1])
            assert (number is None) == bool(is_unknown), question
            if number:
                material = re.findall(r"(?m)^\d\. .*", asked[0])[int(number[1] or number[2]) - 1]
                value = re.findall(r"[\d:,]+", asked[1].removesuffix("。"))
                assert all(part in material for part in value)
                cited += 1
    assert cited > 50


def said_in_verification() -> set[str]:
    """Materials, questions, what users say and what references answer, of every pack that judges."""
    mine = [f"recipes/models/{path.name}" for path in (ROOT / "recipes/models").glob("tiny-*.yaml")]
    said: set[str] = set()
    for pack in load_packs([*BOTH, *mine], ROOT):
        for dialogue in pack.dialogues:
            said |= set(dialogue.materials)
            for turn in dialogue.turns:
                said |= {each for each in (turn.question, turn.user) if each}
                # A short one, such as an admission that the materials do not say, is no one's own.
                said |= {line for line in (turn.reference or "").splitlines() if len(line.encode()) > 60}
    return {" ".join(each.split()) for each in said} - DESIGN


def test_nothing_that_verification_asks_is_learnt_from() -> None:
    said = said_in_verification()
    assert len(said) > 300
    learnt = "\n".join(each.continuation() for each in islice(dialogues(BOTH, 0), 2400))
    for path in (ROOT / "convert/calibration/packs").glob("*.yaml"):
        learnt += path.read_text("utf-8")
    learnt = " ".join(learnt.split())
    assert [each for each in said if each in learnt] == []


def test_a_chat_model_gets_roles_and_history() -> None:
    made = byte_tokenizer(family("qwen").tokenizer.chat_template)
    cut = windows(settings(length=2048), Path(), made, 4096)
    assert [len(window) for window in cut.tokens] == [2048] * 8
    begin, end = 257, 258
    joined = np.concatenate(cut.tokens)
    # The last dialogue of each kind may be cut.
    assert abs(int((joined == begin).sum()) - int((joined == end).sum())) <= 4
    read = text(cut.tokens[0], made)
    assert read.startswith(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n使用以下"
    )
    assert "<|im_end|>\n<|im_start|>assistant\n" in read
    assert "回答:" not in read


def test_a_completion_model_gets_texts_to_continue() -> None:
    made = byte_tokenizer()
    cut = windows(settings(length=2048), Path(), made, 4096)
    read = text(cut.tokens[0], made)
    assert read.startswith("使用以下提供的资料来回答最后的问题。")
    assert "\n回答: " in read
    assert "<|im_start|>" not in read
    assert 256 in cut.tokens[0]


def test_the_seed_settles_everything() -> None:
    digests = [windows(settings(seed=seed), Path(), byte_tokenizer(), 4096).digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_there_is_always_enough() -> None:
    cut = windows(settings(samples=300, length=64), Path(), byte_tokenizer(), 4096)
    assert (len(cut.tokens), cut.length, cut.source) == (300, 64, "searchqa+lessonpack")
    assert cut.record()["tokens"] == 300 * 64
    # A letter of Chinese is three tokens here, one of English is one, and lessons are longer than answers.
    shares = [f"{scenario} {language} 4800" for scenario in BOTH for language in ("zh", "en")]
    assert cut.record()["kinds"] == ", ".join(shares)


def test_a_kind_with_too_few_tokens_leaves_its_share_to_others() -> None:
    said = [Dialogue((("hello", "world"),), kind=kind) for kind in ("one", "two", "one", "one")]
    tokens, counts = tokenize(iter(said), byte_tokenizer(), 80, ("one", "two"))
    each = len("hello\nAnswer: world") + 1
    assert (len(tokens), counts) == (80, {"one": 80 - each, "two": each})


def test_a_tokenizer_that_knows_none_of_it_is_refused() -> None:
    with pytest.raises(
        Failure, match=r"calibration packs searchqa\+lessonpack: \d+ of the text's 2048 tokens"
    ):
        windows(settings(), Path(), word_tokenizer(), 4096)


def test_a_tokenizer_that_makes_nothing_of_it_is_refused() -> None:
    vocabulary = tokenizers.models.BPE({"a": 0, "b": 1}, [])
    nothing = tokenizers.Tokenizer(vocabulary)
    nothing.normalizer = tokenizers.normalizers.Replace(tokenizers.Regex(r"[\s\S]"), "")
    made = byte_tokenizer(json=nothing.to_str().encode(), eos_id=None)
    with pytest.raises(Failure, match="the text makes 0 tokens"):
        windows(settings(), Path(), made, 4096)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for m in messages %}{{ m.nothing.at.all }}{% endfor %}", "can't be rendered: .*nothing"),
        ("{{ messages.__class__.__mro__ }}", "the sandbox refuses"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "more CPU time"),
    ],
)
def test_a_bad_template_is_refused(template: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convert.calibration.chat.CPU_S", 1)
    with pytest.raises(Failure, match=rf"chat template cannot lay a conversation out: .*{why}"):
        windows(settings(), Path(), byte_tokenizer(template), 4096)


def test_a_template_without_a_system_role_gets_it_with_the_first_turn() -> None:
    template = (
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
    )
    config = {"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>"}
    made = byte_tokenizer(template, config=config)
    cut = windows(settings(packs=("lessonpack",), length=2048), Path(), made, 4096)
    read = text(cut.tokens[0], made)
    assert read.startswith("<|im_start|>[user] 你是一个具有丰富教学经验的AI助理\n\n")


def test_the_shipped_model_reads_most_of_it() -> None:
    folder = ROOT / "recipes/models/tiny-qwen"
    config = yaml.safe_load((folder / "config.json").read_text())
    made = load(folder, "qwen", config, config["vocab_size"])
    cut = windows(settings(samples=128, length=256), Path(), made, 256)
    assert len(cut.tokens) == 128
    assert len(np.unique(np.concatenate(cut.tokens))) > 500
