"""Whole dialogues with models that are made up: one that is always right, and several that are not."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import pytest

from convert.errors import Failure
from verify.scenarios import load, names
from verify.scenarios.pack import Completion, Pack
from verify.scenarios.prompt import Answer, Prompt, ask
from verify.scenarios.running import converse, run
from verify.scenarios.score import scores, smoke
from verify.scenarios.tidying import tidy_chat, tidy_completion

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verify.scenarios.transcript import Transcript

STYLE = Completion(cue="Answer:", next=("Question:", "Materials:"))


@dataclass
class Fake:
    """A model that answers by a function of what it was sent; a token is three bytes."""

    answers: Callable[[str], str]
    is_chat: bool = True
    context_length: int = 1 << 20
    end: str = "end"
    sent: list[str] = field(default_factory=list)

    def count_tokens(self, text: str) -> int:
        return -(-len(text.encode()) // 3)

    def chat(self, messages: Sequence[dict[str, str]], max_tokens: int) -> Answer:
        size = sum(self.count_tokens(each["content"]) for each in messages)
        assert size + max_tokens <= self.context_length
        self.sent.append("\n".join(each["content"] for each in messages))
        return Answer(self.answers(messages[-1]["content"])[: max_tokens * 3], self.end, 1)

    def complete(self, prompt: str, max_tokens: int, stop: tuple[str, ...]) -> Answer:
        assert stop
        assert self.count_tokens(prompt) + max_tokens <= self.context_length
        self.sent.append(prompt)
        return Answer(self.answers(prompt)[: max_tokens * 3], self.end, 1)


def oracle(pack: Pack) -> Callable[[str], str]:
    """The references, in order."""
    references = iter([str(turn.reference) for dialogue in pack.dialogues for turn in dialogue.turns])
    return lambda _: next(references)


def failed(transcripts: Sequence[Transcript], *, required: bool = True) -> set[str]:
    return {
        check.name
        for each in transcripts
        for check in each.checks
        if not check.passed and check.required >= required
    }


PACKS = load(names())
IDS = [f"{pack.scenario}-{pack.language}" for pack in PACKS]


@pytest.mark.parametrize("is_chat", [True, False], ids=["chat", "completion"])
@pytest.mark.parametrize("pack", PACKS, ids=IDS)
def test_one_that_is_always_right_passes_everything(pack: Pack, *, is_chat: bool) -> None:
    model = Fake(oracle(pack), is_chat=is_chat)
    heard: list[Transcript] = []
    transcripts = run([pack], model, heard.append)
    assert list(transcripts) == heard
    assert failed(transcripts, required=False) == set()
    assert smoke(transcripts) == 1.0
    (score,) = scores(transcripts)
    assert (score.scenario, score.language, score.check_share, score.smoke) == (
        pack.scenario,
        pack.language,
        1,
        1,
    )
    assert score.dialogues == len(pack.dialogues)
    json.dumps([*map(asdict, transcripts), asdict(score)])


@pytest.mark.parametrize("pack", PACKS, ids=IDS)
@pytest.mark.parametrize(
    ("answers", "faults"),
    [
        (lambda _: "", {"not_empty"}),
        (lambda sent: sent, {"no_echo"}),
        (lambda _: "the bridge is long and " * 30, {"no_runaway"}),
        (lambda _: "桥很长，" * 30, {"no_runaway"}),
        (lambda _: "fine<|im_end|>\n<|im_start|>user", {"no_echo"}),
    ],
    ids=["silent", "echo", "loop-en", "loop-zh", "markup"],
)
def test_a_broken_one_fails_every_dialogue(
    pack: Pack, answers: Callable[[str], str], faults: set[str]
) -> None:
    transcripts = run([pack], Fake(answers))
    assert smoke(transcripts) == 0.0
    assert faults <= failed(transcripts)
    assert all(any(not check.passed for check in each.checks if check.name in faults) for each in transcripts)


@pytest.mark.parametrize("pack", load(["searchqa"]), ids=lambda pack: pack.language)
def test_one_that_makes_things_up_fails_what_it_should(pack: Pack) -> None:
    made_up = {
        "zh": "根据资料9，由王大明于1871年在月亮湾建成。",
        "en": "According to material 9 it was built by Bob Marlow in 1871.",
    }
    transcripts = run([pack], Fake(lambda _: made_up[pack.language]))
    assert smoke(transcripts) == 0.0
    assert {"answer", "grounded", "cites", "unknown"} <= failed(transcripts)
    # What it says is of the right form, so only what it says is at fault.
    assert not {"not_empty", "no_echo", "no_runaway", "in_language"} & failed(transcripts, required=False)


@pytest.mark.parametrize("pack", load(["searchqa"]), ids=lambda pack: pack.language)
def test_one_that_never_knows_passes_only_where_nothing_is_to_be_known(pack: Pack) -> None:
    refusal = {"zh": "不知道", "en": "I don't know"}[pack.language]
    transcripts = run([pack], Fake(lambda _: refusal))
    for dialogue, transcript in zip(pack.dialogues, transcripts, strict=True):
        assert transcript.passed == ("unknown" in dict(dialogue.turns[0].checks.asked()))


@pytest.mark.parametrize("pack", load(["lessonpack"]), ids=lambda pack: pack.language)
def test_one_that_gives_the_same_lesson_again_has_revised_nothing(pack: Pack) -> None:
    for dialogue in pack.dialogues:
        first = str(dialogue.turns[0].reference)
        transcript = converse(pack, dialogue, Fake(lambda _, first=first: first))  # type: ignore[misc]
        assert [c for c in transcript.exchanges[0].checks if not c.passed] == []
        assert {"changed", "quiz"} <= failed([transcript])


def test_chat_has_roles_and_history() -> None:
    pack = load(["lessonpack"])[1]
    transcript = converse(pack, pack.dialogues[0], Fake(oracle(pack)))
    sent = transcript.exchanges[2].sent
    assert not isinstance(sent, str)
    assert [each["role"] for each in sent] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert sent[0]["content"] == "你是一个具有丰富教学经验的AI助理"
    assert sent[2]["content"] == pack.dialogues[0].turns[0].reference


def test_completion_has_an_example_and_history_and_ends_in_the_cue() -> None:
    pack = load(["searchqa"])[0]
    assert pack.language == "en"
    model = Fake(oracle(pack), is_chat=False)
    transcript = converse(pack, pack.dialogues[0], model)
    assert transcript.style == "completion"
    first, second = model.sent
    assert first.startswith(f"{pack.completion.example}\n\nUse the materials provided below")
    assert first.endswith("\nQuestion: How long is the main span of the Golden Gate Bridge?\nAnswer:")
    assert second.startswith(f"{first} {pack.dialogues[0].turns[0].reference}\n\n")
    assert second.endswith("Which material did you base this conclusion on?\nAnswer:")
    assert transcript.exchanges[0].sent == first


@pytest.mark.parametrize("is_chat", [True, False], ids=["chat", "completion"])
@pytest.mark.parametrize("context", [512, 1024, 2048])
@pytest.mark.parametrize("pack", PACKS, ids=IDS)
def test_what_is_sent_fits_the_window(pack: Pack, context: int, *, is_chat: bool) -> None:
    """The fake refuses a prompt that leaves no room for its answer."""
    long = "A sentence that says something else. " * 40
    transcripts = run([pack], Fake(lambda _: long, is_chat=is_chat, context_length=context))
    for transcript in transcripts:
        for exchange in transcript.exchanges:
            assert exchange.sent, [check.why for check in exchange.checks]


def test_materials_that_do_not_fit_are_told_and_counted_anew() -> None:
    pack = load(["searchqa"])[1]
    dialogue = pack.dialogues[0]  # the answer stands in material 3
    transcript = converse(pack, dialogue, Fake(lambda _: "1670米，根据资料2。", context_length=350))
    exchange = transcript.exchanges[0]
    assert "3. " not in exchange.user
    assert "material left out" in {step.name for step in exchange.steps}
    assert all(check.passed for check in exchange.checks if check.name == "cites"), exchange.checks


def test_a_window_too_small_for_the_question_fails_the_turn() -> None:
    pack = load(["searchqa"])[1]
    transcript = converse(pack, pack.dialogues[0], Fake(lambda _: "x", context_length=40))
    assert [(check.name, check.required) for check in transcript.checks] == [("answered", True)]
    assert "40 tokens" in transcript.checks[0].why
    assert not transcript.passed


def test_a_model_that_crashes_fails_its_turn_and_the_next_dialogue_is_asked() -> None:
    def crash(sent: str) -> str:
        if "Harborview" in sent:
            raise Failure("SIGSEGV")
        return "x"

    transcripts = run(load(["searchqa"])[:1], Fake(crash))
    assert transcripts[1].checks[-1].why == "SIGSEGV"
    assert len(transcripts) == 16
    assert len(transcripts[2].exchanges) == 2


def test_a_lost_end_of_turn_is_seen() -> None:
    pack = load(["searchqa"])[0]
    assert failed(run([pack], Fake(oracle(pack), end="length"))) == {"ends"}


@pytest.mark.parametrize(
    ("raw", "answer", "steps"),
    [
        ("  1,280 metres.\n", "1,280 metres.", []),
        ("1,280 metres.\n\nQuestion: How wide?\nAnswer: 27", "1,280 metres.", ["cut at the next question"]),
        ("Answer: 1,280 metres.", "1,280 metres.", ["cut at the next question"]),
        (
            "The span is long.\n\nCats eat fish.\n\nThe span is 1,280.",
            "The span is long.\n\nThe span is 1,280.",
            ["unrelated paragraphs dropped"],
        ),
        (
            "•one\n2）two\n３、three\n①four\n##Five",
            "- one\n2. two\n3. three\n1. four\n## Five",
            ["list markup repaired"],
        ),
        ("```\ncode", "```\ncode\n```", ["list markup repaired"]),
        ("1.5 metres\n-3 degrees", "1.5 metres\n-3 degrees", []),
    ],
    ids=["blank ends", "next question", "cue", "paragraphs", "lists", "fence", "nothing to tidy"],
)
def test_a_completion_is_tidied_and_every_step_is_told(raw: str, answer: str, steps: list[str]) -> None:
    tidied, told = tidy_completion(raw, STYLE, "How long is the main span?")
    assert tidied == answer
    assert [step.name for step in told] == steps
    assert all(step.what for step in told)


def test_tidying_never_mends_what_a_check_looks_at() -> None:
    """Numbers that do not follow each other stay so, and a chat model's markup stays to be seen."""
    assert tidy_completion("1. a\n3. b", STYLE, "")[0] == "1. a\n3. b"
    assert tidy_chat("fine<|im_end|>")[0] == "fine<|im_end|>"
    assert tidy_chat("<think>hm</think>\nfine") == ("fine", tidy_chat("<think>hm</think>\nfine")[1])
    assert tidy_chat("<think>for ever")[0] == ""


@dataclass
class Crowded(Fake):
    """Three seats; whichever was asked last is finished first, and after `dies_after` answers none is."""

    seats: int = 3
    dies_after: int = 1 << 20
    under_way: dict[int, Prompt] = field(default_factory=dict)

    def advance(self, asked: Mapping[int, Prompt]) -> Mapping[int, Answer | Failure]:
        self.under_way |= asked
        if self.dies_after == 0:
            raise Failure("it crashed")
        self.dies_after -= 1
        seat, prompt = self.under_way.popitem()
        return {seat: ask(self, prompt)}


def by_question(sent: str) -> str:
    return f"Material {len(sent) % 7} says so: {sent[-40:]}"


def test_several_dialogues_at_once_are_the_same_dialogues() -> None:
    one_by_one = run(PACKS, Fake(by_question))
    heard: list[Transcript] = []
    together = run(PACKS, Crowded(by_question), heard.append)
    assert together == one_by_one
    assert sorted(map(str, heard)) == sorted(map(str, together))


def test_a_model_that_dies_leaves_the_rest_unanswered() -> None:
    model = Crowded(by_question, dies_after=5)
    transcripts = run(PACKS, model)
    unanswered = [each for each in transcripts if each.exchanges[-1].raw == ""]
    assert len(transcripts) == sum(len(pack.dialogues) for pack in PACKS)
    assert len(unanswered) >= len(transcripts) - 5
    assert {each.exchanges[-1].checks[0].why for each in unanswered} == {"it crashed"}
