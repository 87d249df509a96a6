"""Limits on what artifacts may lose, and on what they may take."""

from pydantic import Field

from convert.recipe.strict import Strict


class Gates(Strict):
    """How much worse than its source an artifact may be; null switches a gate off."""

    smoke_drop: float | None = Field(
        default=0.05, ge=0, le=1, description="Ceiling of the share of smoke checks that are lost."
    )
    ppl_ratio: float | None = Field(
        default=1.05, ge=1, le=100, description="Ceiling of the perplexity divided by the source's."
    )
    task_drop: float | None = Field(
        default=None, ge=0, le=1, description="Ceiling of the most that a task of `tasks` loses."
    )
    kl_mean: float | None = Field(
        default=0.05, ge=0, le=100, description="Ceiling of the mean KL divergence, in nats."
    )
    kl_p99: float | None = Field(
        default=None, ge=0, le=100, description="Ceiling of its 99th percentile, in nats."
    )
    top1: float | None = Field(
        default=0.90, ge=0, le=1, description="Floor of the share of equal top-1 tokens."
    )
    size_bytes: int | None = Field(default=None, ge=1, description="Ceiling of the artifact's size.")
    ttft_s: float | None = Field(
        default=None, gt=0, description="Ceiling of the time to the first token, in seconds."
    )
    load_s: float | None = Field(default=None, gt=0, description="Ceiling of the time to load, in seconds.")
    prefill_tok_s: float | None = Field(
        default=None, gt=0, description="Floor of the prefill speed, in tokens per second."
    )
    decode_tok_s: float | None = Field(
        default=None, gt=0, description="Floor of the decode speed, in tokens per second."
    )
    peak_rss_bytes: int | None = Field(default=None, ge=1, description="Ceiling of the resident memory.")
    peak_anon_bytes: int | None = Field(
        default=None, ge=1, description="Ceiling of the resident memory without file-backed pages."
    )
