"""The source's license: in the Hub's keys, and in words, with the files that travel."""

import re
from typing import Any
from urllib.parse import quote, urlsplit

from convert.publish.bundle import Bundle
from convert.publish.card import markdown
from convert.source import is_legal

# The identifiers that the Hub accepts; any other is "other", with a name and a link.
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


def license_keys(bundle: Bundle) -> dict[str, str | None]:
    """Return the Hub's `license`; for one that it does not list, `license_name` and `license_link` too."""
    given, added = _given(bundle), _of_adapter(bundle)
    if added:
        name = _slug(f"{given} and {added}" if given else added)
        return {"license": "other", "license_name": name or None, "license_link": license_link(bundle)}
    if given is None:
        return {}
    if given in KNOWN and given != "other":
        return {"license": given}
    named = bundle.source_card.get("license_name")
    name = _slug(named if isinstance(named, str) and given == "other" else given)
    return {"license": "other", "license_name": name or None, "license_link": license_link(bundle)}


def license_link(bundle: Bundle) -> str | None:
    """Return where its text is: at the source's own link, in this repo, or in the source's."""
    given = bundle.source_card.get("license_link")
    if isinstance(given, str) and _is_address(given):
        return given
    paths = {file.path for file in bundle.files}
    if paths & {"LICENSE", "LICENSE.md"}:
        return "LICENSE" if "LICENSE" in paths else "LICENSE.md"
    source = bundle.candidates[0].manifest.source
    found = next((file.path for file in source.files if is_legal(file.path)), None)
    if source.repo is None or found is None:
        return None
    return f"{HUB}/{source.repo}/blob/{source.commit or 'main'}/{quote(found)}"


def license_values(bundle: Bundle) -> dict[str, Any]:
    """Return the license's name, linked where its text is elsewhere, and links to the texts in the repo."""
    named, link = bundle.license or _given(bundle), license_link(bundle)
    texts = [file.path for file in bundle.files if is_legal(file.path)]
    shown = markdown.code(named) if named is not None else None
    if shown and link and link not in texts:
        shown = markdown.link(shown, link)
    added = _of_adapter(bundle)
    return {
        "license": shown,
        "adapter_license": None if added is None else markdown.code(added),
        "license_texts": [markdown.link(markdown.code(path), path) for path in texts],
    }


def _of_adapter(bundle: Bundle) -> str | None:
    """Return the adapter's license, where it is another than the source's."""
    added = bundle.adapter.license if bundle.adapter else None
    return None if added is None or added in (bundle.license, _given(bundle)) else added


def _given(bundle: Bundle) -> str | None:
    """Return the source's identifier; None for several, which the Hub would refuse."""
    value = bundle.source_card.get("license")
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if not isinstance(value, str) or not value.strip():
        value = bundle.license
    return value.strip() if value else None


def _slug(name: str) -> str:
    """Write a name as the Hub accepts it."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:64]


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    return is_whole and text.isascii() and text.isprintable() and not set(text) & set(" \"'<>\\`")
