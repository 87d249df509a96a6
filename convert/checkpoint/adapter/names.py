"""Names of tensors, whatever their model is wrapped in."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# The same modules have these before their names, or have not.
WRAPPERS = frozenset({"model", "language_model", "transformer", "text_model"})


@dataclass(frozen=True)
class Names:
    """What the names of a model's tensors may begin with."""

    wrappers: frozenset[str] = WRAPPERS

    def core(self, name: str) -> str:
        """Leave out what a tensor's module is wrapped in."""
        parts = name.split(".")
        while len(parts) > 1 and parts[0] in self.wrappers:
            del parts[0]
        return ".".join(parts)

    def by_core(self, names: Iterable[str]) -> Mapping[str, list[str]]:
        """List names by their core."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in names:
            found[self.core(name)].append(name)
        return found
