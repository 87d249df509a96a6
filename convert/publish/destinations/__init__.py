"""Where a bundle can go: each file here is a destination, found by the scheme of an address."""

import importlib
import pkgutil
import re
from pathlib import Path

from convert.errors import UsageFailure
from convert.publish.destination import ANY_SCHEME, Destination
from convert.publish.destinations.folder import expanded_folder
from convert.source import Hub
from convert.store.objects import EXAMPLES, refuse_password

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)


def find(address: str | None, hub: Hub | None = None) -> Destination:
    """Find the destination of an address, or the Hub where there is none; refuse what names neither."""
    address = "hub://" if address is None else address
    if not address or not address.isprintable():
        raise UsageFailure("publish.to: an empty or unprintable address", EXAMPLES)
    match = _SCHEME.fullmatch(address)
    refuse_password(address, "publish.to")
    schemes = {scheme: each for each in registry().values() for scheme in each.SCHEMES}
    found = schemes.get(match[1].lower() if match else "", schemes[ANY_SCHEME])
    return found.at(address, hub or Hub.from_environment())


def registry() -> dict[str, type[Destination]]:
    """Give every destination by its file's name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").DESTINATION for name in names}


def located(address: str, recipe_folder: Path) -> str:
    """Give an address as a recipe means it: a folder is relative to the recipe's own."""
    return address if _SCHEME.fullmatch(address) else str(recipe_folder / expanded_folder(address))
