"""Describe the model: what cannot be converted is refused here, before any weights are fetched."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from convert.checkpoint.quantized import scheme_of
from convert.deviation import AS_SOURCE, Deviation
from convert.model import families
from convert.model.card import front_matter
from convert.model.config import read_config
from convert.model.decoder import Decoder
from convert.model.family import Family
from convert.model.source import Model
from convert.pipeline.run import Run
from convert.tokenizer import Tokenizer
from convert.tokenizer import load as load_tokenizer


def read_source(folder: Path) -> tuple[Family, Decoder, Tokenizer]:
    """Read a checkpoint's config.json and tokenizer; refuse a model of an unknown family."""
    config = read_config(folder)
    family, decoder = families.describe(config)
    values = families.text_config(config).values
    tokenizer = load_tokenizer(folder, family.model_type, values, decoder.vocab_size)
    return family, decoder, tokenizer


def describe(run: Run) -> Run:
    """Read all that formats need to know of the model besides its weights."""
    folder = run.source.small.folder
    widened = tuple(_widened(folder))
    family, decoder, tokenizer = read_source(folder)
    card, fault = front_matter(folder)
    has_generation = (folder / "generation_config.json").is_file()
    model = Model(
        title=run.title,
        repo=run.listing.repo,
        decoder=decoder,
        tokenizer=tokenizer,
        folder=folder,
        card=card,
        generation=read_config(folder, "generation_config.json").values if has_generation else {},
        weight_bytes=run.source.weight_bytes,
        texts=run.source.texts,
        deviations=(*_without("source", [fault] if fault else []), *widened),
        left_out=_without("model", decoder.deviations),
    )
    return replace(run, model=model, family=family)


def _widened(folder: Path) -> Iterator[Deviation]:
    """Say what a quantized source is stored as."""
    if scheme := scheme_of(read_config(folder), folder):
        why = f"its weights are stored as {scheme.label} and were widened: what that lost stays lost"
        yield Deviation("source", AS_SOURCE, scheme.label, why)


def _without(subject: str, faults: Iterable[str]) -> tuple[Deviation, ...]:
    return tuple(Deviation(subject, AS_SOURCE, "without", fault) for fault in faults)
