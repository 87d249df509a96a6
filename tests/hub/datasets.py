"""The calls by which a Hub's datasets are read: those for models, under another path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.hub.reading import ROUTES, Route, _model_info, _resolve
from tests.hub.repo import Repo
from tests.hub.server import HubServer

if TYPE_CHECKING:
    from tests.hub.server import Handler

_REPO = r"(?P<repo>[^/]+/[^/]+)"
_REV = r"(?P<rev>[^/]+)"


def _info(request: Handler, repo: str, rev: str = "") -> None:
    _model_info(request, f"datasets/{repo}", rev)


def _file(request: Handler, repo: str, rev: str, path: str) -> None:
    _resolve(request, f"datasets/{repo}", rev, path)


DATASET_ROUTES: list[Route] = [
    ("GET", rf"/api/datasets/{_REPO}/revision/{_REV}", _info),
    ("GET", rf"/api/datasets/{_REPO}", _info),
    ("GET|HEAD", rf"/datasets/{_REPO}/resolve/{_REV}/(?P<path>.+)", _file),
]


class DatasetServer(HubServer):
    """A Hub that has datasets too."""

    def __init__(self) -> None:
        super().__init__(routes=[*DATASET_ROUTES, *ROUTES])

    def add_dataset(self, name: str, files: dict[str, bytes], **settings: Any) -> Repo:
        """Put a dataset on the Hub."""
        repo = Repo(name, **settings)
        repo.commit(files)
        self.repos[f"datasets/{name}"] = repo
        return repo
