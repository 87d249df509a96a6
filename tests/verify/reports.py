"""A report as a verification makes it, with a stranger's words wherever a stranger has a say."""

from __future__ import annotations

from verify.gates import Check
from verify.machine import Accelerator, Machine
from verify.quality import Interval, Quality
from verify.report import ArtifactResult, Opened, Report, Scenarios, SourceResult
from verify.sample import Memory, Speed, Spread
from verify.scenarios.score import Score
from verify.scenarios.transcript import Exchange, Outcome, Step, Transcript

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
