"""Models by name: the facts of those in recipes come along, a folder has its own, the Hub has the rest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from convert.errors import Failure
from convert.model.card import front_matter
from convert.model.config import Config, read_config
from convert.model.decoder import Decoder
from convert.model.families import describe, text_config
from convert.pick.data import read_json
from convert.pick.speed import active_weights
from convert.recipe.lookup import expand_home
from convert.source import Hub, fetch_files, list_source

CONFIG, CARD = "config.json", "README.md"
NATIVE = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class Known:
    """A model's description, and what a person must know of it before any of it is downloaded."""

    name: str  # a repo, or the name of a folder
    decoder: Decoder
    native: str  # the float that its source is stored in
    languages: tuple[str, ...] | None = None  # None: nobody says
    is_chat: bool = True
    released: float | None = None  # in years
    source: str = ""  # of these facts
    sized: int | None = None  # weights that count as its size, where tables are most of it
    is_local: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def parameter_count(self) -> int:
        return self.decoder.parameter_count

    @cached_property
    def active_count(self) -> float:
        return active_weights(self.decoder)

    @property
    def download_bytes(self) -> int:
        """Return about how much a conversion downloads."""
        return 0 if self.is_local else self.parameter_count * (4 if self.native == "F32" else 2)


def find_model(model: str, base: Path, hub: Hub | None = None) -> Known:
    """Describe a model by a recipe's `model:`, seen from the recipe's folder."""
    folder = expand_home(model)
    folder = folder if folder.is_absolute() else base / folder
    if folder.is_dir():
        return _described(folder.name, read_config(folder), _card_facts(folder), is_local=True)
    if facts := read_json("models.json").get(model):
        return _described(model, Config(facts["config"], f"models.json: {model}"), facts)
    if model.startswith((".", "/", "~")):
        raise Failure(f"{model}: there is no such folder", "check the path")
    hub = hub or Hub.from_environment()
    listing = list_source(model, hub=hub)
    names = [name for name in (CONFIG, CARD) if name in listing.files]
    place = fetch_files(listing, names, hub=hub).folder
    return _described(model, read_config(place), _card_facts(place))


def _described(name: str, config: Config, facts: Mapping[str, Any], *, is_local: bool = False) -> Known:
    _, decoder = describe(config)
    inner = text_config(config).values
    kind = str(inner.get("torch_dtype") or inner.get("dtype") or config.values.get("torch_dtype"))
    year, _, month = str(facts.get("released", "")).partition("-")
    return Known(
        name,
        decoder,
        NATIVE.get(kind.removeprefix("torch."), "BF16"),
        tuple(facts["languages"]) if facts.get("languages") else None,
        bool(facts.get("is_chat", True)),
        int(year) + (int(month or 1) - 1) / 12 if year.isdigit() else None,
        str(facts.get("source", "")),
        facts.get("effective_parameters"),
        is_local,
        facts,
    )


def _card_facts(folder: Path) -> dict[str, Any]:
    card, _ = front_matter(folder)
    languages = card.get("language")
    if isinstance(languages, str):
        languages = [languages]
    facts: dict[str, Any] = {"source": f"its {CONFIG}"}
    if isinstance(languages, list):
        facts["languages"] = [each for each in languages if isinstance(each, str)]
    return facts
