"""From what a recipe or a person writes to the place that it means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from convert.errors import UsageFailure
from convert.recipe import expand_home

if TYPE_CHECKING:
    from convert.publish.destination import Destination

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_EXAMPLES = "write a folder, an address that fsspec knows as s3://bucket/models, or oci://registry/models"
# Of fsspec's schemes, those that name no place of their own, or one that cannot be written.
_NO_PLACES = frozenset(
    {"http", "https", "data", "blockcache", "filecache", "simplecache", "reference", "zip"}
)


def find(address: str) -> Destination:
    """The place at an address; a UsageFailure where it can be none."""
    if not address or not address.isprintable():
        raise UsageFailure("publish.to: an empty or unprintable address", _EXAMPLES)
    match = _SCHEME.fullmatch(address)
    if match is None:
        return _folder(address)
    scheme = match[1].lower()
    _refuse_password(address)
    if scheme in {"file", "local"}:
        return _folder(unquote(match[2]))
    if scheme == "oci":
        from convert.publish.destinations.oci import registry_at  # noqa: PLC0415 - httpx2 for who needs it

        return registry_at(match[2])
    if scheme in _NO_PLACES:
        hint = "a registry is written as oci://…" if scheme in {"http", "https"} else _EXAMPLES
        raise UsageFailure(f"publish.to: nothing can be published to {scheme}://", hint)
    from convert.publish.destinations.objects import store_at  # noqa: PLC0415 - fsspec for who needs it

    return store_at(address)


def located(address: str, beside: Path) -> str:
    """An address as a recipe has it, whose folders are seen from the recipe's own."""
    return address if _SCHEME.fullmatch(address) else str(beside / _expanded(address))


def _expanded(address: str) -> Path:
    path = expand_home(address)
    if address.startswith("~") and path == Path(address):
        raise UsageFailure(
            f"publish.to: nobody here has the home {path.parts[0]}", "write the folder's path in full"
        )
    return path


def _folder(path: str) -> Destination:
    from convert.publish.destinations.folder import FolderPlace  # noqa: PLC0415 - the store's modules

    return FolderPlace(_expanded(path))


def _refuse_password(address: str) -> None:
    """A recipe is published word for word."""
    try:
        password = urlsplit(address).password
    except ValueError:
        raise UsageFailure(f"publish.to: {address!r} is no address", _EXAMPLES) from None
    if password is not None:
        raise UsageFailure(
            "publish.to: the address holds a password, and a recipe is published",
            "leave it out; give it as the store's own tools take it (AWS_PROFILE, a login, a key file)",
        )
