"""A GGUF is the one that llama.cpp's own converter makes of the same checkpoint, to the byte and the key."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from convert.model.families import family, supported
from tests import tiny
from tests.gguf import converter, heads, oracle
from tests.gguf.test_logits import VARIANTS
from tests.hf.describing import convert_to, make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Fields = Mapping[str, tuple[str, Any]]

pytestmark = pytest.mark.slow

CASES = {**{name: tiny.Recipe(name, dtype="F32") for name in tiny.rendered("gguf")}, **VARIANTS}
QUANTS = ("F32", "F16", "Q8_0")  # of a sample; of others the first
SAMPLE = tiny.sample(tiny.rendered("gguf"))


@dataclass(frozen=True)
class Feed:
    """What the converter must be given, besides the checkpoint, and why."""

    why: str
    config: Mapping[str, Any] = field(default_factory=dict)  # None takes a key away
    is_config_raw: bool = False  # config.json itself, not what Transformers' class makes of it
    flags: tuple[str, ...] = ()
    vocabulary: str = "plain"  # "own": the way of the family's class in the converter


NO_HEADS = Feed("it takes for granted that there are heads of multi-token prediction", flags=("--no-mtp",))
SIGMOID = {"scoring_func": "sigmoid"}
# By family, or by variant where that says more.
FEEDS = {
    "deepseek_v3": Feed("it knows the routing by a key that Transformers never writes", SIGMOID),
    **dict.fromkeys(("glm4_moe", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_next"), NO_HEADS),
    "falcon": Feed("with one head of keys, it takes the number that says otherwise", {"num_kv_heads": 1}),
    **dict.fromkeys(("falcon-grouped", "falcon-normed"), Feed("their number of heads is the right one")),
    "gpt_neox": Feed("it looks for a share that Transformers takes out", is_config_raw=True),
    "glm4_moe_lite": Feed(
        "llama.cpp knows the routing by the number of layers and of tokens, and no such heads are there",
        {**SIGMOID, "num_nextn_predict_layers": 0},
    ),
    "glm4_moe_lite-types": Feed(
        "besides, it looks for a count where Transformers lists the layers",
        {**SIGMOID, "num_nextn_predict_layers": 0, "first_k_dense_replace": 2},
    ),
    "gpt2": Feed("it looks for a key that Transformers no longer writes", {"n_ctx": 256}),
    "nemotron_h": Feed(
        "Transformers gives each config keys of experts, by which it is taken for a mixture",
        is_config_raw=True,
    ),
    "phi3": Feed(
        "it writes a length of another model where the config has none",
        {"original_max_position_embeddings": tiny.CONFIGS["phi3"]["max_position_embeddings"]},
    ),
}
# Families that it cannot convert, however it is fed, and what it says then.
REFUSED = {
    "lfm2_moe-sparse": "Can not map tensor 'lm_head.weight'",
    "ministral3-plain": "ministral3 rope_type must be 'yarn'",
    "stablelm-parallel": "Unprocessed norms",
}
# Those of which it makes a file that answers wrongly, and why.
WRONG = {
    "granitemoehybrid-dense": "it does not know the newer names of kinds of layers",
    "gpt_bigcode-keyed": "it takes each model for one with a single head of keys",
}

# What llama.cpp assumes where a key is missing: a key that one file alone has must say the same.
ASSUMED: dict[str, Callable[[Callable[[str], Any]], Any]] = {
    "*.vocab_size": lambda get: len(get("tokenizer.ggml.tokens")),
    "*.attention.head_count_kv": lambda get: get("*.attention.head_count"),
    "*.attention.key_length": lambda get: get("*.embedding_length") // get("*.attention.head_count"),
    "*.attention.value_length": lambda get: get("*.embedding_length") // get("*.attention.head_count"),
    "*.rope.dimension_count": lambda get: get("*.attention.key_length"),
    "*.rope.freq_base": lambda _: 10_000.0,
    "*.expert_gating_func": lambda _: int(gguf.ExpertGatingFuncType.SOFTMAX),
    "tokenizer.ggml.add_bos_token": lambda _: False,
    "tokenizer.ggml.add_eos_token": lambda _: False,
    "tokenizer.ggml.merges": lambda _: [],
}
# Keys that may differ, by case and by key.
EXPLAINED = {
    **{
        (f"granitemoehybrid-{case}", f"{graph}.{key}"): "it writes of state spaces where there are none"
        for case, graph in (
            ("attentive", "granite"),
            ("placeless-dense", "granite"),
            ("shared", "granitemoe"),
        )
        for key in (
            "attention.head_count_kv",
            "expert_count",
            "expert_used_count",
            "expert_shared_feed_forward_length",
            "ssm.conv_kernel",
            "ssm.group_count",
            "ssm.inner_size",
            "ssm.state_size",
            "ssm.time_step_rank",
        )
    },
    ("granitemoehybrid-grouped", "granitehybrid.rope.scaling.finetuned"): "it takes hybrids to turn no head",
    ("granitemoehybrid-grouped", "granitehybrid.context_length"): "it takes hybrids to turn no head",
    ("granitemoehybrid-placeless-dense", "granite.rope.scaling.finetuned"): "it turns all heads",
    ("falcon", "falcon.context_length"): "it writes 2048, whatever the config says",
    ("falcon", "falcon.feed_forward_length"): "it writes four times the hidden size",
    ("gpt_neox", "general.file_type"): "it does not write it",
    ("gemma4_text-dense", "gemma4.final_logit_softcapping"): "llama.cpp takes 30 where it is left out",
    **{
        ("ministral3-untied", f"mistral3.rope.scaling.{key}"): "it takes mscale to be one, and here it is not"
        for key in ("attn_factor", "yarn_log_multiplier")
    },
    ("nemotron_h-biased", "nemotron_h.rope.dimension_count"): "no head is turned in this graph",
    **{
        ("hunyuan_v1_dense-stretched", f"hunyuan-dense.rope.scaling.{key}"): "it says that nothing is scaled"
        for key in ("type", "factor", "original_context_length")
    },
    ("phi", "phi2.feed_forward_length"): "it writes four times the hidden size, whatever the config says",
    ("phi3-longrope", "phi3.rope.scaling.type"): "it leaves out what the graph takes from the factors",
    ("qwen", "tokenizer.ggml.eot_token_id"): "it looks for this in tokenizer_config.json alone",
    ("qwen3_5_text", "qwen35.full_attention_interval"): "Transformers drops it; the layers are listed",
    ("qwen3_next", "qwen3next.full_attention_interval"): "Transformers drops it; the layers are listed",
    ("*", "general.name"): "it is named by its folder, ours by the recipe",
    ("*", "tokenizer.ggml.pre"): "it knows one by a digest of how a whole vocabulary splits a text",
}
# Keys of ours that it never writes.
OURS_ALONE = {
    "*.attention.sliding_window_pattern": "it leaves the graph its own pattern, whatever the config says",
}
# Tensors that llama-quantize, which we follow, leaves in 32 bits and the converter does not.
KEPT = {"per_layer_model_proj.weight"}
# Tensors that are computed, not copied: there in 32 bits, here in 64.
COMPUTED = {"*.ssm_a": 2e-7, "rope_freqs.weight": 4e-7, "rope_factors_*.weight": 2e-7}


@pytest.fixture(scope="module")
def llama_cpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[converter.Converter]:
    try:
        folder = converter.find()
    except converter.UnreachableError as error:
        pytest.skip(str(error))
    with converter.Converter(folder, tmp_path_factory.mktemp("converter") / "log") as loaded:
        yield loaded


def with_tokenizer(folder: Path) -> None:
    """Give a checkpoint a vocabulary with merges, which leaves a few ids without a token."""
    special = ["<unk>", "<s>", "</s>"]
    names = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    # Gemma 3's converter cuts the embedding at as many rows as there are tokens, added ones counted twice.
    letters = "Ġetaoinshrdlucmf"
    merges = [(left, right) for left in letters for right in letters]
    merges = merges[: tiny.VOCAB_SIZE - len(special) - len(names)]
    names += [left + right for left, right in merges]
    tokenizer = Tokenizer(models.BPE({name: identity for identity, name in enumerate(names)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in special])
    tokenizer.save(str(folder / "tokenizer.json"))


def checkpoint(place: Path, recipe: tiny.Recipe) -> Path:
    """Make a checkpoint that the converter can read: our `hf` where it does not know the family."""
    source = make(place / "source", recipe)
    is_relabeled = family(tiny.CONFIGS[recipe.model_type]["model_type"]).canonical is not None
    if is_relabeled and not tiny.described(recipe.model_type).graph:
        return convert_to(place, source, "hf: {}") / "hf"
    with_tokenizer(source)
    return source


def fed(folder: Path, feed: Feed | None, place: Path) -> Path:
    """Copy a checkpoint with the changes of a feed."""
    if feed is None or not feed.config:
        return folder
    shutil.copytree(folder, place)
    path = place / "config.json"
    config = {**json.loads(path.read_text("utf-8")), **feed.config}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), "utf-8")
    return place


def fields(path: Path) -> dict[str, tuple[str, Any]]:
    """Read the keys with their types, the file's own name of its architecture left out of them."""
    return {
        key: ("/".join(kind.name for kind in found.types), found.contents())
        for key, found in gguf.GGUFReader(path).fields.items()
        if not key.startswith("GGUF.")
    }


def reading(found: Fields) -> Callable[[str], Any]:
    """Read a key as llama.cpp does, with what it assumes where it is missing."""
    architecture = found["general.architecture"][1]

    def get(pattern: str) -> Any:
        key = pattern.replace("*", architecture)
        return found[key][1] if key in found else ASSUMED[pattern](get)

    return get


def differing_keys(ours: Fields, theirs: Fields) -> dict[str, str]:
    """List the keys that say something else, or that one file alone has and llama.cpp would not assume."""
    architecture = theirs["general.architecture"][1]
    patterns = {pattern.replace("*", architecture): pattern for pattern in ASSUMED}
    differing: dict[str, str] = {}
    for key in sorted({*ours, *theirs}):
        mine, other = (
            found.get(key) or (key in patterns and (None, reading(found)(patterns[key])))
            for found in (ours, theirs)
        )
        if not mine or not other or mine[1] != other[1] or (mine[0] and other[0] and mine[0] != other[0]):
            differing[key] = f"{str(ours.get(key))[:200]}, llama.cpp has {str(theirs.get(key))[:200]}"
    return differing


def differing_tensors(ours: Path, theirs: Path) -> dict[str, str]:
    """List the tensors that one file alone has, or whose type, shape or bytes differ."""
    mine, other = oracle.tensors(ours), oracle.tensors(theirs)
    differing = dict.fromkeys(sorted(mine.keys() ^ other.keys()), "is in one alone")
    for name in sorted(mine.keys() & other.keys()):
        if mine[name] == other[name]:
            continue
        tolerance = max(
            (share for pattern, share in COMPUTED.items() if fnmatchcase(name, pattern)), default=0
        )
        if tolerance and mine[name][:2] == other[name][:2]:
            left, right = (np.frombuffer(found[name][2], np.float32) for found in (mine, other))
            if np.allclose(left, right, rtol=tolerance, atol=0):
                continue
        is_alike = mine[name][:2] == other[name][:2]
        differing[name] = "its bytes" if is_alike else f"{mine[name][:2]}, llama.cpp has {other[name][:2]}"
    return differing


@pytest.mark.parametrize("model_type", heads.FAMILIES)
def test_layers_for_further_tokens_are_those_of_llama_cpp(
    model_type: str, llama_cpp: converter.Converter, tmp_path: Path
) -> None:
    source = heads.checkpoint(tmp_path / "source", heads.recipe(model_type))
    with_tokenizer(source)
    made = convert_to(tmp_path, source, "gguf: {quants: [F32]}") / "gguf-F32"
    job = {"vocabulary": "plain", "is_config_raw": False, "flags": ()}
    assert not llama_cpp.convert(source, tmp_path / "theirs.gguf", type="f32", **job)
    (ours,) = made.glob("*.gguf")
    assert not differing_tensors(ours, tmp_path / "theirs.gguf")
    differing = differing_keys(fields(ours), fields(tmp_path / "theirs.gguf"))
    assert differing.keys() <= {"general.name", "tokenizer.ggml.pre"}


@pytest.mark.parametrize("case", tiny.cases_of(CASES))
def test_the_file_is_that_of_llama_cpp(case: str, llama_cpp: converter.Converter, tmp_path: Path) -> None:
    recipe = CASES[case]
    source = checkpoint(tmp_path, recipe)
    names = (case, recipe.model_type, tiny.CONFIGS[recipe.model_type]["model_type"])
    feed = next((FEEDS[name] for name in names if name in FEEDS), None)
    given = fed(source, feed, tmp_path / "fed")
    job = {
        "vocabulary": feed.vocabulary if feed else "plain",
        "is_config_raw": bool(feed and feed.is_config_raw),
        "flags": feed.flags if feed else (),
    }
    if refusals := [REFUSED[name] for name in names if name in REFUSED]:
        assert refusals[0] in llama_cpp.convert(given, tmp_path / "theirs.gguf", type="f32", **job)
        return
    quants = QUANTS if case in SAMPLE else QUANTS[:1]
    (tmp_path / "ours").mkdir()
    made = convert_to(tmp_path / "ours", source, f"gguf: {{quants: [{', '.join(quants)}]}}")
    for quant in quants:
        theirs = tmp_path / f"theirs-{quant}.gguf"
        error = llama_cpp.convert(given, theirs, type=quant.lower(), **job)
        assert not error, f"llama.cpp's converter: {error}; say in FEEDS what it needs, or in REFUSED why not"
        (ours,) = (made / f"gguf-{quant}").glob("*.gguf")
        differing_by_name = differing_tensors(ours, theirs)
        if case in WRONG:
            assert differing_by_name
            return
        if quant != "F32":
            differing_by_name = {name: said for name, said in differing_by_name.items() if name not in KEPT}
        assert differing_by_name == {}
        differing = differing_keys(fields(ours), fields(theirs))
        explained = {key for name, key in EXPLAINED if name in (*names, "*")}
        explained |= {
            key
            for key in fields(ours).keys() - fields(theirs).keys()
            if any(fnmatchcase(key, pattern) for pattern in OURS_ALONE)
        }
        assert {key: said for key, said in differing.items() if key not in explained} == {}


def test_tables_name_what_there_is() -> None:
    for name in (*FEEDS, *REFUSED, *WRONG, *(name for name, _ in EXPLAINED if name != "*")):
        assert name in {*CASES, *supported()}, f"{name} is no family and no variant any more"
