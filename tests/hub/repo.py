"""Model repos as a Hub keeps them: commits of files, and names for commits."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

LFS_SUFFIXES = (".safetensors", ".bin", ".h5", ".msgpack", ".ot", ".onnx", ".tflite", ".tiktoken", ".gguf")


def git_sha1(content: bytes) -> str:
    """Return the id that git gives a blob."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def sha256(content: bytes) -> str:
    """Return the id that LFS gives it."""
    return hashlib.sha256(content).hexdigest()


@dataclass
class Repo:
    """A model repo: the files of each commit, and names for commits."""

    name: str
    is_private: bool = False
    is_gated: bool = False
    readers: set[str] = field(default_factory=set)  # users whom a gated or private repo lets in
    writers: set[str] = field(default_factory=set)  # besides its owner
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pulls: dict[str, str] = field(default_factory=dict)  # refs/pr/1 → commit
    parents: dict[str, str | None] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # what LFS keeps, by sha256
    lies: dict[str, dict[str, Any]] = field(default_factory=dict)  # by file: what a listing says instead

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        """Add a commit, and let a branch or tag be it."""
        text = repr(sorted((name, sha256(content)) for name, content in files.items()))
        oid = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.commits[oid] = dict(files)
        self.refs[ref] = oid
        return oid

    def push(self, files: dict[str, bytes], parent: str | None, title: str) -> str:
        """Add a commit upon another, as git does: the same files upon another parent are another commit."""
        identity = repr((parent, title, sorted((name, sha256(content)) for name, content in files.items())))
        oid = hashlib.sha1(identity.encode(), usedforsecurity=False).hexdigest()
        self.commits[oid] = dict(files)
        self.parents[oid], self.titles[oid] = parent, title
        return oid

    def find(self, revision: str) -> str | None:
        """Find the commit of a branch, tag, pull request or commit."""
        oid = {**self.pulls, **self.tags, **self.refs}.get(revision, revision)
        return oid if oid in self.commits else None

    def history(self, revision: str = "main") -> list[str]:
        """List the commits of a branch, the newest first."""
        found, oid = [], self.find(revision)
        while oid is not None:
            found.append(oid)
            oid = self.parents.get(oid)
        return found

    def may_read(self, user: str | None) -> bool:
        """Return whether this user can see the repo."""
        return not self.is_private or user in self.readers or self.may_write(user)

    def may_write(self, user: str | None) -> bool:
        """Return whether this user may change it."""
        return user is not None and (user == self.name.partition("/")[0] or user in self.writers)


def is_lfs(name: str, content: bytes) -> bool:
    """Return whether the Hub would store this file in LFS."""
    return name.endswith(LFS_SUFFIXES) or len(content) > 10_000_000


class Refused(Exception):  # an answer, not an error
    """The status and the code that the Hub refuses a request with."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(code)
        self.status = status
        self.code = code
