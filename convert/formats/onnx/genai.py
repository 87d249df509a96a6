"""genai_config.json: what onnxruntime-genai must know besides the graph."""

import json
import sys
from typing import Any

from convert.deviation import Deviation
from convert.formats.onnx.attention import PAST, PRESENT, cached_heads
from convert.formats.onnx.graph import MODEL_FILE
from convert.formats.onnx.network import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOGITS,
    POSITION_IDS,
    needs_position_ids,
)
from convert.formats.onnx.options import Provider
from convert.formats.onnx.recurrent import STATE_IN, STATE_OUT, states
from convert.model.decoder import Attention, Decoder, Delta, Latent, ShortConvolution
from convert.model.families import family
from convert.model.source import Model

# How Transformers searches where generation_config.json is silent, and the most that a setting can be.
SEARCH: dict[str, tuple[bool | float, float]] = {
    "do_sample": (False, True),
    "temperature": (1.0, sys.float_info.max),
    "top_k": (50, sys.maxsize),
    "top_p": (1.0, 1.0),
    "repetition_penalty": (1.0, sys.float_info.max),
}


def files(model: Model, provider: Provider) -> dict[str, bytes]:
    """Write the configuration."""
    content = {"model": _model(model, provider), "search": _search(model)}
    text = json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    return {"genai_config.json": text.encode()}


def deviations(model: Model) -> tuple[Deviation, ...]:
    """Record where onnxruntime-genai departs from the source."""
    scaling = model.decoder.rope.scaling if model.decoder.rope else None
    if scaling is None or scaling.kind != "longrope" or _type(model.decoder) != "decoder":
        return ()
    length = scaling.original_context_length
    return (
        Deviation(
            "rotary positions",
            "long factors for all of a long text",
            "long factors for its later part alone",
            f"onnxruntime-genai does not read a text again that grows beyond {length} tokens while answering",
        ),
    )


def _model(model: Model, provider: Provider) -> dict[str, Any]:
    decoder, tokenizer = model.decoder, model.tokenizer
    mixers = [layer.mixer for layer in decoder.layers]
    cached = filter(None, map(cached_heads, mixers))
    # A model without attention has none; onnxruntime-genai wants a number all the same.
    kv_head_count, head_size = next(cached, (1, 1))
    heads = (layer.attention or layer.mixer for layer in decoder.layers)
    head_count = next((each.head_count for each in heads if isinstance(each, Attention | Latent)), 1)
    # Finished texts of a batch are filled with something; where no token is meant for it, the end is.
    begin, fill = tokenizer.bos_id, tokenizer.eos_id if tokenizer.pad_id is None else tokenizer.pad_id
    return {
        "type": _type(decoder),
        **({} if begin is None else {"bos_token_id": begin}),
        **({} if fill is None else {"pad_token_id": fill}),
        "eos_token_id": list(tokenizer.eog_ids),
        "context_length": decoder.context_length,
        "vocab_size": decoder.vocab_size,
        "decoder": {
            "filename": MODEL_FILE,
            "session_options": {
                "log_id": "onnxruntime-genai",
                "provider_options": [{"cuda": {}}] if provider is Provider.CUDA else [],
            },
            "head_size": head_size,
            "hidden_size": decoder.hidden_size,
            "num_attention_heads": head_count,
            "num_key_value_heads": kv_head_count,
            "num_hidden_layers": decoder.layer_count,
            **_layer_types(decoder),
            "inputs": _inputs(decoder),
            "outputs": {
                "logits": LOGITS,
                "present_key_names": PRESENT.format(layer="%d", part="key"),
                "present_value_names": PRESENT.format(layer="%d", part="value"),
                **_states(decoder, "present", STATE_OUT),
            },
        },
    }


def _type(decoder: Decoder) -> str:
    """Choose the type: "decoder" runs every graph; a family's own may know that factors change midway."""
    known, scaling = family(decoder.family).genai, decoder.rope.scaling if decoder.rope else None
    if known is not None and known.reread_length is None:
        return known.type
    if known is None or scaling is None or scaling.kind != "longrope":
        return "decoder"
    return known.type if scaling.original_context_length == known.reread_length else "decoder"


def _inputs(decoder: Decoder) -> dict[str, str]:
    named = {
        "input_ids": INPUT_IDS,
        "attention_mask": ATTENTION_MASK,
        "past_key_names": PAST.format(layer="%d", part="key"),
        "past_value_names": PAST.format(layer="%d", part="value"),
        **_states(decoder, "past", STATE_IN),
    }
    return {**named, "position_ids": POSITION_IDS} if needs_position_ids(decoder) else named


def _layer_types(decoder: Decoder) -> dict[str, Any]:
    """Say which layers keep a state in place of keys and values, where some do."""
    mixers = [layer.mixer for layer in decoder.layers]
    kernels = {mixer.kernel for mixer in mixers if isinstance(mixer, Delta | ShortConvolution)}
    if not kernels:
        return {}
    names = {Delta: "linear_attention", ShortConvolution: "conv"}
    types = [names.get(type(mixer), "full_attention") for mixer in mixers]
    return {"layer_types": types, "conv_cache_size": kernels.pop() - 1}


def _states(decoder: Decoder, when: str, name: str) -> dict[str, str]:
    """Name the states of mixers that have no keys and values."""
    parts = {part for layer in decoder.kinds for part, _ in states(layer.mixer, decoder.hidden_size)}
    return {f"{when}_{part}_names": name.format(layer="%d", part=part) for part in sorted(parts)}


def _search(model: Model) -> dict[str, Any]:
    """Search as the source does by default, greedily unless it says otherwise."""
    decoder = model.decoder
    searched = {key: _said(key, model.generation.get(key)) for key in SEARCH}
    return {
        **searched,
        "top_k": min(searched["top_k"], decoder.vocab_size),
        "max_length": decoder.context_length,
        "past_present_share_buffer": True,
    }


def _said(key: str, value: Any) -> Any:
    """Take a setting where it can be meant; with another, onnxruntime-genai would not open the model."""
    usual, most = SEARCH[key]
    if isinstance(usual, bool) or isinstance(value, bool):
        return value if isinstance(value, bool) and isinstance(usual, bool) else usual
    is_number = isinstance(value, int if isinstance(usual, int) else (int, float))
    return value if is_number and 0 <= value <= most else usual
