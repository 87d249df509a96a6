"""The card's front matter, which the Hub filters by and shows. A source's values are a stranger's data."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from convert.formats.shipping import shipping
from convert.publish.bundle import Bundle
from convert.publish.card.facts import Facts
from convert.publish.card.license import license_keys
from convert.publish.card.result import model_index

# The source's tags about its files would be false of these.
NOT_OURS = frozenset(
    """
    safetensors pytorch transformers gguf onnx gptq awq mlx tf jax flax keras rust openvino coreml
    bitsandbytes 4-bit 8-bit custom_code endpoints_compatible autotrain_compatible text-generation-inference
    model-index
    """.split()  # noqa: SIM905 - a list of words reads better
)
MOST_TAGS = 12

_LANGUAGE = re.compile(r"[a-z]{2,3}")
_BCP47 = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){1,3}")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+ -]{0,48}[A-Za-z0-9+]")
# Written bare, these are the same words in YAML 1.1, in 1.2 and in JavaScript's reading of it.
_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_./+-]*( [A-Za-z0-9(][A-Za-z0-9_.,()/+-]*)*")
_NO_WORDS = frozenset("y n yes no on off true false null".split())  # noqa: SIM905


def values(bundle: Bundle, facts: Facts) -> dict[str, Any]:
    """Return every key, in the order in which people read them."""
    manifest = bundle.candidates[0].manifest
    format_ = shipping(manifest.format, manifest.options)
    card = bundle.source_card
    bases = [repo for repo in (manifest.source.repo, bundle.adapter.repo if bundle.adapter else None) if repo]
    owner, _, name = bundle.repo.rpartition("/")
    languages, regional = languages_of(card)
    found: dict[str, Any] = {
        "base_model": bases[0] if len(bases) == 1 else bases,
        "base_model_relation": _relation(bundle, is_quantized=format_.is_quantized) if bases else None,
        **license_keys(bundle),
        "language": languages,
        "language_bcp47": regional,
        "library_name": format_.library,
        "pipeline_tag": "text-generation",
        "tags": tags(bundle, is_chat=facts.is_chat),
        "quantized_by": owner if format_.is_quantized else None,
        "inference": False,  # no provider serves these files on the Hub
        "model-index": model_index(name or bundle.repo, bundle),
    }
    return {key: value for key, value in found.items() if value not in (None, [], "")}


def _relation(bundle: Bundle, *, is_quantized: bool) -> str | None:
    """Name what was made of the base; for the same model again, unquantized, the Hub has no word."""
    if is_quantized:
        return "quantized"
    return "merge" if bundle.adapter else None


def languages_of(card: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the source's languages as the Hub accepts them, and those that also name a region."""
    given = [each.strip() for each in _words(card.get("language"))]
    regional = [each for each in given if _BCP47.fullmatch(each)]
    plain = [each.partition("-")[0] if each in regional else each for each in given]
    known = [each for each in plain if _LANGUAGE.fullmatch(each) or each in ("multilingual", "code")]
    return list(dict.fromkeys(known)), list(dict.fromkeys(regional))


def tags(bundle: Bundle, *, is_chat: bool) -> list[str]:
    """Return our tags, then the source's about the model itself."""
    manifests = [candidate.manifest for candidate in bundle.candidates]
    ours = [tag for each in manifests for tag in shipping(each.format, each.options).tags]
    ours += ["conversational"] if is_chat else []
    theirs = [
        tag
        for tag in _words(bundle.source_card.get("tags"))
        if _TAG.fullmatch(tag) and tag.lower() not in NOT_OURS
    ]
    return list(dict.fromkeys([*ours, *theirs[:MOST_TAGS], "modelwright"]))


def dump(content: Mapping[str, Any]) -> str:
    """Write YAML that every reader reads alike: a word that could be another type is quoted."""
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


class _Dumper(yaml.SafeDumper):
    """Without anchors: the same list twice is two lists."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class names it
        return True


def _represent(dumper: yaml.SafeDumper, word: str) -> yaml.ScalarNode:
    is_bare = _BARE.fullmatch(word) is not None and word.lower() not in _NO_WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", word, style=None if is_bare else '"')


_Dumper.add_representer(str, _represent)


def _words(value: object) -> Iterable[str]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, str) and each]
