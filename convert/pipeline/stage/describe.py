"""Describe the model: what cannot be converted is refused here, before any weights are fetched."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from convert.checkpoint.adapter import Adapter, open_adapter
from convert.checkpoint.index import index_names
from convert.checkpoint.quantized import scheme_of
from convert.deviation import AS_SOURCE, Deviation
from convert.errors import Failure
from convert.model import families
from convert.model.card import front_matter
from convert.model.config import read_config
from convert.model.decoder import Decoder
from convert.model.family import Family
from convert.model.further import fitting
from convert.model.source import Model
from convert.pipeline.adapter import describe_untied, require_fit
from convert.pipeline.parts import find_parts, has_next_layers
from convert.pipeline.run import Run
from convert.pipeline.tied import tied_as_stored
from convert.pipeline.transform import transform_deviations, untied_by_rotation
from convert.tokenizer import Tokenizer, load_kept

# No checkpoint stores a weight in less than a bit.
BITS_PER_BYTE = 8


def read_source(folder: Path, notes: Path | None = None) -> tuple[Family, Decoder, Tokenizer]:
    """Read a checkpoint's config.json and tokenizer; refuse a model of an unknown family.

    A large vocabulary is kept in `notes`, and read from there the next time.
    """
    config = read_config(folder)
    family, decoder = families.describe(config)
    decoder = tied_as_stored(folder, config, family.naming, decoder)
    values = families.text_config(config).values
    tokenizer = load_kept(notes, folder, family.model_type, values, decoder.vocab_size)
    return family, decoder, tokenizer


def describe(run: Run) -> Run:
    """Read all that formats need to know of the model besides its weights."""
    began_core_s = time.process_time()
    folder = run.source.small.folder
    widened = tuple(_widened(folder))
    lora = run.resources.enter_context(open_adapter(run.adapter.folder)) if run.adapter else None
    family, tied, tokenizer = read_source(folder, run.hub.notes)
    tied = fitting(tied, family.naming, frozenset(index_names(folder) or ()))
    require_fit(lora, read_config(folder), family, tied)
    adapted = describe_untied(lora, read_config(folder), family, tied)
    decoder = untied_by_rotation(run, read_config(folder), adapted)
    _require_weights_for(decoder, run.source.weight_bytes)
    card, fault = front_matter(folder)
    has_generation = (folder / "generation_config.json").is_file()
    model = Model(
        title=run.title,
        repo=run.repo,
        decoder=decoder,
        tokenizer=tokenizer,
        folder=folder,
        card=_card(run, card),
        generation=read_config(folder, "generation_config.json").values if has_generation else {},
        weight_bytes=run.source.weight_bytes,
        is_untied=tied.is_tied and not decoder.is_tied,
        texts=run.source.texts,
        deviations=(
            *_without("source", [fault] if fault else []),
            *widened,
            *transform_deviations(run, decoder, adapted),
        ),
        has_next_layers=has_next_layers(folder, family, tied),
        parts=find_parts(folder, read_config(folder), family, tied),
        left_out=_without("model", decoder.deviations),
    )
    _remark_on_base(run, lora)
    return replace(run, model=model, family=family, lora=lora, described_core_s=began_core_s)


def _require_weights_for(decoder: Decoder, weight_bytes: int) -> None:
    """Refuse sizes that the weights cannot fill, before anything is laid out for them."""
    if decoder.parameter_count > BITS_PER_BYTE * weight_bytes > 0:
        raise Failure(
            f"config.json: it describes {decoder.parameter_count} parameters, and the weights have "
            f"{weight_bytes} bytes",
            "config.json and the weights are not of one model; fetch both again",
        )


def _card(run: Run, card: dict[str, Any]) -> dict[str, Any]:
    """Name the source as the base of what an adapter makes of it."""
    if run.adapter is None:
        return card
    own = {key: value for key, value in card.items() if key not in ("name", "model_name", "base_model")}
    return {**own, "base_model": [run.listing.repo]} if run.listing.repo else own


def _remark_on_base(run: Run, lora: Adapter | None) -> None:
    named, given = lora.config.base if lora else None, run.listing.repo
    if named and given and named.lower() != given.lower():
        run.remark(f"{run.recipe.path}: the adapter says that it was trained on {named}, not on {given}")


def _widened(folder: Path) -> Iterator[Deviation]:
    """Say what a quantized source is stored as."""
    if scheme := scheme_of(read_config(folder), folder):
        why = f"its weights are stored as {scheme.label} and were widened: what that lost stays lost"
        yield Deviation("source", AS_SOURCE, scheme.label, why)


def _without(subject: str, faults: Iterable[str]) -> tuple[Deviation, ...]:
    return tuple(Deviation(subject, AS_SOURCE, "without", fault) for fault in faults)
