"""A folder that was downloaded, copied or pulled: its files, and what is in them."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from convert.errors import Failure
from convert.publish.listing import NAME as LISTING_NAME
from convert.store.fault import explained

# Far above any document of ours: the statement of 10,000 files has 2 MB.
_LARGEST_BYTES = 64 << 20

# What the Hub's own tools, and destinations other than the Hub, add to a repo's files; no runtime reads it.
_BY_TOOLS = frozenset({".cache", ".git", ".gitattributes", LISTING_NAME})


@dataclass(frozen=True)
class Download:
    """Every file by its path in the repo, and apart from them what tools put there."""

    folder: Path
    names: tuple[str, ...]
    by_tools: tuple[str, ...]

    def where(self, name: str) -> Path:
        """Return the file's path on this machine."""
        return self.folder / name

    def read(self, name: str) -> bytes:
        """Read a document; links are followed, for the Hub's cache is made of them."""
        path = self.where(name)
        with explained(path):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as stream:
                about = os.fstat(descriptor)
                if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST_BYTES:
                    raise Failure(f"{path}: not a document of a published model", "download it again")
                return stream.read()


def open_download(folder: Path) -> Download:
    """List a folder and the folders below."""
    names: list[str] = []
    by_tools: list[str] = []
    with explained(folder):
        if not folder.is_dir():
            raise Failure(f"{folder}: no such folder", "name the folder that was downloaded")
        for place, folders, files in os.walk(folder, onerror=_raise):
            if Path(place) == folder:
                by_tools = [each for each in (*folders, *files) if each in _BY_TOOLS]
                folders[:] = [each for each in folders if each not in _BY_TOOLS]
                files[:] = [each for each in files if each not in _BY_TOOLS]
            # A link to a folder is not walked into, so it counts as a file, which nobody signed.
            links = [each for each in folders if (Path(place) / each).is_symlink()]
            names += ((Path(place) / each).relative_to(folder).as_posix() for each in (*files, *links))
    return Download(folder, tuple(sorted(names)), tuple(sorted(by_tools)))


def _raise(error: OSError) -> NoReturn:
    raise error
