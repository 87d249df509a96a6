"""Files on their way to the Hub: hashed before, so not again, and counted as they are read."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from convert.publish.bundle import Bundle, ShippedFile
from convert.publish.hub.session import Session
from convert.source.hub import client

# Smaller ones go together, in threads that Ctrl-C waits for; each larger one alone, in the main thread.
_SMALL_BYTES = 1 << 20


class _Counted(io.BufferedReader):
    """A file that reports how far it was read."""

    def __init__(self, path: Path, reach: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path))
        self._reach = reach

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and report."""
        data = super().read(size)
        self._reach(self.tell())
        return data


@cache
def _addition_class() -> Any:
    """Make the client's operation, counted, once the client is imported, which is late."""

    class Addition(client().CommitOperationAdd):  # type: ignore[misc]
        advance: Callable[[int], None]
        furthest: int = 0

        def reach(self, position: int) -> None:
            """Count what was read for the first time: an upload that is repeated is no progress."""
            if position > self.furthest:
                self.advance(position - self.furthest)
                self.furthest = position

        @contextmanager
        def as_file(self, with_tqdm: bool = False) -> Iterator[Any]:  # noqa: FBT001, FBT002 - the client's signature
            if with_tqdm and isinstance(self.path_or_fileobj, str):
                with _Counted(Path(self.path_or_fileobj), self.reach) as file:
                    yield file
            else:
                with super().as_file() as file:
                    yield file

    return Addition


def upload(
    session: Session, bundle: Bundle, files: Sequence[ShippedFile], advance: Callable[[int], None]
) -> list[Any]:
    """Bring the large files that the Hub lacks to its storage, unseen; return what a commit needs to know."""
    operations = []
    for file in files:
        addition = _addition_class()(path_in_repo=file.path, path_or_fileobj=file.content)
        addition.upload_info.sha256 = bytes.fromhex(file.sha256)  # or the client would read it for that
        addition.advance = advance
        operations.append(addition)
    small = [each for each in operations if each.upload_info.size <= _SMALL_BYTES]
    large = [each for each in operations if each.upload_info.size > _SMALL_BYTES]
    push = partial(
        session.api.preupload_lfs_files,
        bundle.repo,
        revision=bundle.revision,
        create_pr=bundle.is_pull_request,
        free_memory=False,
    )
    for batch in ([small] if small else []) + [[each] for each in large]:
        label = batch[0].path_in_repo if len(batch) == 1 else ""
        session.ask(bundle.repo, partial(push, batch), retries_itself=True, file=label)
        for each in batch:  # those that the Hub had already, and those that go with the commit
            each.reach(each.upload_info.size)
    return operations
