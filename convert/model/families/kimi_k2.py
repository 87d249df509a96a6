"""Kimi K2: DeepSeek-V3 by another name, with other sizes."""

from collections.abc import Iterator, Mapping
from typing import Any

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import deepseek_v3
from convert.model.family import Canonical, Reference

CLASSES = deepseek_v3.CLASSES
RUNS_IN = deepseek_v3.RUNS_IN
NAMING = deepseek_v3.NAMING
GGUF = deepseek_v3.GGUF
CANONICAL = Canonical()
EXAMPLE = {
    **deepseek_v3.EXAMPLE,
    "n_group": 1,
    "topk_group": 1,
    "routed_scaling_factor": 2.827,
    "num_nextn_predict_layers": 0,
    "rope_theta": 50000.0,
    "rope_scaling": {**deepseek_v3.YARN, "beta_fast": 32.0, "beta_slow": 1.0},
}
# As the first of them have it.
VARIANTS = {"step": {"rope_scaling": {**deepseek_v3.YARN, "beta_fast": 1.0, "beta_slow": 1.0}}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    return deepseek_v3.describe(config)


def _reference_config(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "model_type": "deepseek_v3"}


def _reference_tensors(tensors: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from tensors.items()


REFERENCE = Reference(_reference_config, _reference_tensors)
