"""An artifact's short name, and which of its files hold the weights."""

from convert.errors import Failure
from convert.formats.shipping import Shipping, shipping
from convert.publish.bundle import Candidate
from convert.store import FileEntry


def label(candidate: Candidate) -> str:
    """Return the target without its format, which the whole repo shares: Q4_K_M."""
    return candidate.target.removeprefix(f"{candidate.manifest.format}-")


def shipping_of(candidate: Candidate) -> Shipping:
    """Return how the artifact's format is shipped."""
    return shipping(candidate.manifest.format, candidate.manifest.options)


def weights(candidate: Candidate) -> tuple[FileEntry, ...]:
    """Return the files that hold the weights; the others say what they are."""
    pattern = shipping_of(candidate).weight_pattern(label(candidate))
    found = tuple(file for file in candidate.manifest.files if pattern.fullmatch(file.path))
    if not found:
        raise Failure(f"{candidate.target}: no file in it has the name of its weights", "convert it again")
    return found
