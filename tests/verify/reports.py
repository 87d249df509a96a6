"""A report as a verification makes it, with a stranger's words wherever a stranger has a say."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from verify.circumstances import Circumstances
from verify.gates import Check
from verify.machine import Accelerator, Machine
from verify.quality import Interval, Quality
from verify.report import ArtifactResult, Opened, Report, Scenarios, SourceResult
from verify.sample import Memory, Speed, Spread
from verify.scenarios.score import Score
from verify.scenarios.score import scores as scores_of
from verify.scenarios.transcript import Exchange, Outcome, Step, Transcript

if TYPE_CHECKING:
    from verify.scenarios.wording import Language

MACHINE = Machine(
    cpu="Some CPU @ 3 GHz",
    cores=2,
    cores_online=4,
    instructions=("avx2", "fma"),
    memory_bytes=8 << 30,
    accelerators=(Accelerator("Some GPU", 16 << 30, "1.2"),),
    system="Linux 6 x86_64",
    python="3.11.7",
    versions={"modelwright": "0.1.0", "numpy": "2.2.6"},
    load_average=0.5,
)


def report(*artifacts: ArtifactResult, words: str = "Jupiter", recipe: str | None = "tiny") -> Report:
    """A report of these, or of one that passed and one that did not."""
    return Report(
        tool="0.1.0",
        recipe=recipe,
        recipe_sha256="e" * 64,
        machine=MACHINE,
        text="the scenarios' own words, 8 windows of 512 tokens, the second half of each scored",
        source=SourceResult(
            repo="some/model",
            commit="0123456789abcdef",
            digest="d" * 64,
            size_bytes=2_500_000_000,
            opened=opened(words),
            scenarios=scenarios(words, passed=True),
        ),
        artifacts=artifacts
        or (artifact("gguf-Q8_0", words=words), artifact("gguf-Q2_K", passed=False, words=words)),
    )


def artifact(name: str, *, passed: bool = True, words: str = "Jupiter") -> ArtifactResult:
    """One artifact's result."""
    kl = 0.004 if passed else 1.7
    checks = (
        Check("digests", 0, 0, passed=True, why="1 file has the manifest's SHA-256"),
        Check("opens", "llama_cpp", "a runtime", passed=True, why=words),
        Check(
            "kl_mean",
            kl,
            0.05,
            passed=passed,
            why=f"its KL divergence from the source is {kl} nats",
        ),
        Check("smoke_drop", 0.0 if passed else 1.0, 0.05, passed=passed, why="dialogues"),
    )
    return ArtifactResult(
        name=name,
        manifest_sha256="a" * 64,
        size_bytes=1_250_000_000 if passed else 650_000_000,
        checks=checks,
        opened=opened(words),
        quality=Quality(8.2, 8.0, 1.025, kl, 4 * kl, 0.95, 2048, 512, {"kl_mean": Interval(kl / 2, kl * 2)}),
        speed=Speed(
            load_s=spread(0.5),
            ttft_s=spread(0.1),
            prefill_tok_s=spread(900.0),
            decode_tok_s=spread(25.0),
            inter_token_p50_s=0.04,
            inter_token_p95_s=0.06,
            throughput_tok_s={1: 25.0, 4: 70.0, 10: 90.0},
            prompt_tokens=256,
            answer_tokens=64,
        ),
        memory=Memory(1_500_000_000, 200_000_000, 4096.0, 4096),
        scenarios=scenarios(words, passed=passed),
    )


def spread(value: float) -> Spread:
    """Five repetitions around a value."""
    return Spread(value, value * 0.75, value * 1.5, 5)


def opened(words: str) -> Opened:
    """A runtime that says something of itself."""
    return Opened(
        runtime="llama_cpp",
        versions={"llama-cpp-python": "0.3"},
        notes={"file_type": words},
        context=2048,
        kv_bytes_per_token=4096,
    )


def scenarios(words: str, *, passed: bool) -> Scenarios:
    """One dialogue of one turn."""
    score = Score("searchqa", "en", 1, 2, 0.5, float(passed), {"expects": 1.0})
    return Scenarios(smoke=float(passed), scores=(score,), transcripts=(transcript(words, passed=passed),))


def transcript(words: str, *, passed: bool) -> Transcript:
    """A dialogue of one turn."""
    exchange = Exchange(
        user=f"Which planet? {words}",
        sent=({"role": "user", "content": words},),
        raw=f"{words}!",
        answer=words,
        end="end",
        tokens=3,
        steps=(Step("cut", words),),
        checks=(Outcome("expects", passed, words, required=True),),
    )
    return Transcript("searchqa", "en", "planets", "chat", (exchange,))


# What a model may say, in words of two scripts; the seed decides which.
SAID = (
    "The solar system has eight planets, of which Jupiter is the largest and Mercury the smallest.",
    "太阳系有八颗行星，其中木星最大，水星最小，地球是我们居住的行星。",
    "Goals: the children can name the planets in order, and say why Pluto is no longer one of them.",
    "小测验：一、哪颗行星离太阳最近？二、哪颗行星有最明显的光环？三、月亮为什么会有圆缺？",
)
LOSSES = {"F16": 0.0006, "Q8_0": 0.0014, "Q6_K": 0.0055, "Q5_K_M": 0.0108, "Q4_K_M": 0.0313, "Q2_K": 0.4451}


def large(dialogues: int = 60, recipe: str = "tiny") -> Report:
    """A report of six artifacts that were asked many dialogues, each losing and changing some more."""
    draw = random.Random(7)
    names = [f"gguf-{name}" for name in LOSSES]
    source = [_dialogue(draw, number) for number in range(dialogues)]
    artifacts = []
    for place, (name, kl) in enumerate(zip(names, LOSSES.values(), strict=True)):
        made = artifact(name, passed=kl < 0.05)
        assert made.speed
        chance = min(1.0, 0.1 + kl * 3)
        # Every third dialogue is too easy to be lost.
        held = [_changed(draw, each, chance * (at % 3 > 0)) for at, each in enumerate(source)]
        passed = sum(each.passed for each in held)
        quality = Quality(
            8.0 * (1 + kl), 8.0, 1 + kl, kl, 4 * kl, 1 - kl / 2, 2048, 512,
            {"kl_mean": Interval(kl * 0.8, kl * 1.3)},
        )  # fmt: skip
        speed = replace(
            made.speed,
            decode_tok_s=Spread(20 + 4 * place, 19.5 + 4 * place, 21 + 4 * place, 6),
            throughput_tok_s={1: 20.0 + 4 * place, 4: 60.0 + 5 * place, 10: 80.0 + 6 * place},
            circumstances=Circumstances("2026-11-26", 0.1 if place else 1.4, 2),
        )
        artifacts.append(
            made.model_copy(
                update={
                    "size_bytes": 3_200_000_000 - 420_000_000 * place,
                    "quality": quality,
                    "speed": speed,
                    "memory": Memory(3_600_000_000 - 420_000_000 * place, 200_000_000, 57344.0, 57344),
                    "scenarios": Scenarios(
                        smoke=passed / dialogues, scores=scores_of(held), transcripts=tuple(held)
                    ),
                }
            )
        )
    whole = report(*artifacts, recipe=recipe)
    scenarios_ = Scenarios(smoke=1.0, scores=scores_of(source), transcripts=tuple(source))
    return whole.model_copy(
        update={
            "source": whole.source.model_copy(update={"scenarios": scenarios_, "size_bytes": 6_000_000_000})
        }
    )


def _dialogue(draw: random.Random, number: int) -> Transcript:
    language: Language = "zh" if number % 2 else "en"
    scenario = "lessonpack" if number % 4 > 1 else "searchqa"
    turns = [_exchange(draw, f"question {number}.{turn}", 3 + turn) for turn in range(2)]
    return Transcript(scenario, language, f"dialogue-{number:02}", "chat", tuple(turns))


def _exchange(draw: random.Random, asked: str, sentences: int) -> Exchange:
    answer = " ".join(draw.choice(SAID) for _ in range(sentences))
    user = f"{asked}: " + " ".join(draw.choice(SAID) for _ in range(3))
    checks = (Outcome("expects", True, "", required=True), Outcome("language", True, "", required=True))  # noqa: FBT003
    return Exchange(user, user, answer, answer, "end", 80, (), checks)


def _changed(draw: random.Random, transcript: Transcript, chance: float) -> Transcript:
    """The same dialogue as a coarser model holds it: some words differ, now and then an answer is lost."""
    exchanges = []
    for each in transcript.exchanges:
        if draw.random() > chance:
            exchanges.append(each)
            continue
        answer = each.answer.replace("Jupiter", "Saturn").replace("木星", "土星") + f" {draw.random():.2f}"
        is_lost = draw.random() < chance / 3
        checks = (
            Outcome("expects", not is_lost, "Jupiter is not named" if is_lost else "", required=True),
            each.checks[1],
        )
        exchanges.append(replace(each, answer=answer, raw=f"{answer}<|im_end|>", checks=checks))
    return replace(transcript, exchanges=tuple(exchanges))
