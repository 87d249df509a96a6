"""The source's licence: in the Hub's keys, and in words, with the files that travel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from convert.publish.card import markdown
from convert.source import is_legal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.publish.bundle import Bundle

# The identifiers that the Hub takes; any other is "other", with a name and a link.
KNOWN = frozenset(
    """
    apache-2.0 mit openrail openrail++ bigscience-openrail-m creativeml-openrail-m bigcode-openrail-m
    bigscience-bloom-rail-1.0 afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause
    bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0
    cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0
    epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc
    h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl osl-3.0 postgresql
    ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license llama2 llama3 llama3.1 llama3.2 llama3.3
    llama4 gemma unknown other
    """.split()  # noqa: SIM905 - a list of words reads better
)
HUB = "https://huggingface.co"


def licence_keys(bundle: Bundle) -> dict[str, str | None]:
    """`license`, and for one of its own `license_name` and `license_link`."""
    given = _given(bundle)
    if given is None:
        return {}
    if given in KNOWN and given != "other":
        return {"license": given}
    named = bundle.source_card.get("license_name")
    name = _slug(named if isinstance(named, str) and given == "other" else given)
    return {"license": "other", "license_name": name or None, "license_link": licence_link(bundle)}


def licence_link(bundle: Bundle) -> str | None:
    """Where the licence can be read: by the source's own link, beside the weights, or in the source."""
    given = bundle.source_card.get("license_link")
    if isinstance(given, str) and _is_address(given):
        return given
    beside = [file.path for file in bundle.files]
    for name in ("LICENSE", "LICENSE.md"):
        if name in beside:
            return name
    source = bundle.candidates[0].manifest.source
    found = next((file.path for file in source.files if is_legal(file.path)), None)
    if source.repo is None or found is None:
        return None
    return f"{HUB}/{source.repo}/blob/{source.commit or 'main'}/{quote(found)}"


def section(bundle: Bundle) -> Iterator[str]:
    """What holds for these files, in words."""
    given, link = _given(bundle), licence_link(bundle)
    named = bundle.license or given
    beside = [file.path for file in bundle.files if is_legal(file.path)]
    texts = " and ".join(markdown.link(markdown.code(path), path) for path in beside)
    if named is None:
        yield "The source names no licence, so none is given here: ask its authors before you use the files."
    else:
        shown = markdown.code(named)
        shown = markdown.link(shown, link) if link and link not in beside else shown
        yield f"The source's licence, {shown}, holds for these files too: they are its work in another form."
    if texts:
        yield f"Its text travels with them: {texts}."


def _given(bundle: Bundle) -> str | None:
    """The source's identifier; of several, which the Hub would not take, none."""
    value = bundle.source_card.get("license")
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if not isinstance(value, str) or not value.strip():
        value = bundle.license
    return value.strip() if value else None


def _slug(name: str) -> str:
    """A name as the Hub takes it."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:64]


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    return is_whole and text.isascii() and text.isprintable() and not set(text) & set(" \"'<>\\`")
