"""adapter_config.json: how an adapter was trained; what cannot be merged is refused by its own name."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import regex

from convert.errors import Failure, shown
from convert.model.config import Config, read_config
from convert.source import ADAPTER_CONFIG

_METHOD = "only LoRA adapters can be merged (peft_type LORA); merge it with PEFT and save the whole model"
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[\w.-]{1,96}", re.ASCII)
# An expression from a file can be written to search for hours.
_PATTERN_S = 1.0

# What decides how weights are merged. Which modules were trained is seen in the tensors themselves.
_USED = frozenset({
    "peft_type", "base_model_name_or_path", "r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern",
    "alpha_pattern", "init_lora_weights", "trainable_token_indices", "ensure_weight_tying", "lora_bias",
})  # fmt: skip
# What only training reads, or is seen in the tensors.
_IDLE = frozenset({
    "auto_mapping", "bias", "corda_config", "eva_config", "exclude_modules", "fan_in_fan_out",
    "inference_mode", "layers_pattern", "layers_to_transform", "loftq_config", "lora_dropout",
    "lora_ga_config", "megatron_core", "modules_to_save", "peft_version", "qalora_group_size", "revision",
    "runtime_config", "target_modules", "target_parameters", "task_type",
})  # fmt: skip
# The others compute a part of the adapter from the base model's weights, and take it away from these.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class LoraConfig:
    """How an adapter was trained, as far as it decides what is added to the weights."""

    rank: int
    alpha: float
    base: str | None = None  # the repo of the model that it was trained on
    is_rank_stabilized: bool = False
    is_dora: bool = False
    is_tying: bool = False  # keeps a tied head tied, whichever of the two was trained
    ranks: Mapping[str, int] = field(default_factory=dict)  # by an expression for the module's name
    alphas: Mapping[str, float] = field(default_factory=dict)
    tokens: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # "": of the embedding

    def rank_of(self, module: str) -> int:
        """Find the rank that a module was trained with."""
        return self.ranks.get(_matching(self.ranks, module), self.rank)

    def scale_of(self, module: str, rank: int) -> float:
        """Compute the factor of a module's product."""
        alpha = self.alphas.get(_matching(self.alphas, module), self.alpha)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilized else rank)

    def tokens_of(self, module: str) -> tuple[int, ...]:
        """List the tokens of a module whose rows were trained apart."""
        found = (ids for name, ids in self.tokens.items() if name and f".{module}".endswith(f".{name}"))
        return next(found, self.tokens.get("", ()))


def read_lora_config(folder: Path) -> LoraConfig:
    """Read adapter_config.json; refuse a method other than LoRA, and a kind of LoRA that is not merged."""
    config = read_config(folder, ADAPTER_CONFIG)
    method = config.text("peft_type", "LORA")
    if method != "LORA":
        raise Failure(f"{folder / ADAPTER_CONFIG}: an adapter of type {shown(method)}", _METHOD)
    for key, value in config.values.items():
        if key not in _USED | _IDLE and value not in (None, False, [], {}):
            raise Failure(
                f"{folder / ADAPTER_CONFIG}: {shown(key)} is set, and such an adapter is not merged here",
                "merge it with PEFT and save the whole model",
            )
    start = config.values.get("init_lora_weights")
    if start not in _PLAIN_STARTS:
        raise Failure(
            f"{folder / ADAPTER_CONFIG}: init_lora_weights {shown(str(start))} changes the base model too",
            "save it with path_initial_model_for_weight_conversion, which makes a plain LoRA adapter of it",
        )
    base = config.values.get("base_model_name_or_path")
    return LoraConfig(
        rank=config.size("r", default=8),
        alpha=config.real("lora_alpha", default=8),
        # Otherwise a path on somebody's machine.
        base=base if isinstance(base, str) and _REPO.fullmatch(base) else None,
        is_rank_stabilized=config.flag("use_rslora", default=False),
        is_dora=config.flag("use_dora", default=False),
        is_tying=config.flag("ensure_weight_tying", default=False),
        ranks=_patterns(config, "rank_pattern", Config.size),
        alphas=_patterns(config, "alpha_pattern", Config.real),
        tokens=_tokens(config),
    )


def _patterns(config: Config, key: str, read: Any) -> dict[str, Any]:
    section = config.section(key)
    return {name: read(section, name) for name in section.values} if section else {}


def _tokens(config: Config) -> dict[str, tuple[int, ...]]:
    given = config.values.get("trainable_token_indices")
    if given is None:
        return {}
    lists = given if isinstance(given, dict) else {"": given}
    for ids in lists.values():
        if not isinstance(ids, list) or not all(type(each) is int and each >= 0 for each in ids):
            raise Failure(
                f"{config.where}: trainable_token_indices is no list of tokens", "fetch the file again"
            )
    return {str(name): tuple(ids) for name, ids in lists.items()}


def _matching(patterns: Mapping[str, Any], module: str) -> str:
    """Find the first expression that a module's name ends with, as PEFT's get_pattern_key does."""
    for pattern in patterns:
        try:
            if regex.match(rf"(.*\.)?({pattern})$", module, timeout=_PATTERN_S):
                return pattern
        except (regex.error, TimeoutError) as error:
            why = "takes too long" if isinstance(error, TimeoutError) else "is no regular expression"
            raise Failure(
                f"{ADAPTER_CONFIG}: the pattern {shown(pattern)} {why}", "write module names"
            ) from None
    return module
