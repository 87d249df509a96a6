"""Object stores and whatever else fsspec reaches: S3 and compatible stores, other clouds, SFTP."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from convert.errors import Failure
from convert.progress import Progress
from convert.publish.bundle import Bundle, Origin, ShippedFile
from convert.publish.destination import ANY_SCHEME, Contents, Destination, Moved, Sent, Survey
from convert.publish.listing import (
    LARGEST_BYTES,
    NAME,
    Listing,
    blocks,
    differs,
    head_of,
    listing_of,
    name_of,
    parse,
)
from convert.source import Hub
from convert.store.objects import RERUN, Objects


@dataclass(frozen=True)
class _State:
    """What the store holds, as far as one bundle is concerned."""

    data: bytes | None  # of the list that names the current release
    present: Mapping[str, int]  # sizes, below the bundle's own prefix
    near: Mapping[str, str]  # where the current release holds a content, by its sha256

    def lacking(self, bundle: Bundle) -> list[ShippedFile]:
        """List what must still be brought to the bundle's prefix."""
        return [file for file in bundle.files if self.present.get(file.path) != file.size_bytes]

    def missing(self, bundle: Bundle) -> tuple[ShippedFile, ...]:
        """List what of that must be brought from here."""
        return tuple(file for file in self.lacking(bundle) if file.sha256 not in self.near)


@dataclass(frozen=True)
class ObjectDestination(Objects, Destination):
    """A prefix of an object store, with a repo's releases below each of its names."""

    # No store has a rename that hides its half-way states. So each release has a prefix named after its
    # content, and one small object, written last, names the current one: readers see the old or the new.

    SCHEMES = (ANY_SCHEME,)

    @classmethod
    def at(cls, address: str, hub: Hub) -> Self:  # noqa: ARG003 - the Hub's alone
        return cls.reached(address, "publish.to")

    def origin(self, repo: str, revision: str) -> Origin:  # noqa: ARG002
        """Name the address, without a password."""
        return Origin("store", self._place(repo))

    def look(self, repo: str, revision: str) -> Contents:  # noqa: ARG002 - a store has no branches
        """See what the current release holds, according to its list."""
        with self.asking(self._place(repo)):
            data, current = self._current(repo)
        digests = current.digests if current else {}
        return Contents(
            head_of(data),
            frozenset(digests),
            lambda file: digests.get(file.path) == file.sha256,
            keeps_others=False,
        )

    def survey(self, bundle: Bundle) -> Survey:
        """See which release is the current one, and what the bundle's own prefix holds already."""
        place = self._place(bundle.repo)
        with self.asking(place):
            state = self._state(bundle)
        return Survey(
            place,
            exists=state.data is not None or bool(state.present),
            head=head_of(state.data),
            missing=state.missing(bundle),
            foreign=tuple(sorted(set(state.present) - {file.path for file in bundle.files})),
        )

    def send(self, bundle: Bundle, survey: Survey, progress: Progress) -> Sent:
        """Complete the release's own prefix, then let the list name it."""
        listing = listing_of(bundle)
        place = f"{survey.place}/{listing.version}"
        with self.asking(survey.place):
            state = self._state(bundle)
            if head_of(state.data) != survey.head:
                raise Moved(survey.place)
            if not state.lacking(bundle) and state.data == listing.to_bytes():
                return Sent(place, listing.version, 0, is_new=False)
            sent_bytes = self._fill(bundle, state, progress)
            after = self._state(bundle)
            for file in after.lacking(bundle):
                raise Failure(f"{place}/{file.path}: sent, but not there at its size", RERUN)
            if after.data != state.data:
                raise Moved(survey.place)
            self.replace(f"{self._base(bundle.repo)}/{NAME}", listing.to_bytes())
        return Sent(place, listing.version, sent_bytes, is_new=True)

    def read_back(self, bundle: Bundle, sent: Sent, progress: Progress) -> None:
        """Read every object and compare its digest."""
        listing = listing_of(bundle)
        prefix = self._prefix(bundle.repo, listing)
        with self.asking(sent.place):
            if self._current(bundle.repo)[0] != listing.to_bytes():
                raise differs(f"{self._place(bundle.repo)}/{NAME}", RERUN)
            with progress.stage("read back", bundle.size_bytes) as advance:
                for file in bundle.files:
                    if self.sha256(f"{prefix}/{file.path}", advance) != file.sha256:
                        hint = "remove that object, and run the same command again"
                        raise differs(f"{sent.place}/{file.path}", hint)

    def _state(self, bundle: Bundle) -> _State:
        listing, (data, current) = listing_of(bundle), self._current(bundle.repo)
        present = self.sizes(self._prefix(bundle.repo, listing))
        if current is None or current.version == listing.version:
            return _State(data, present, {})
        prefix = self._prefix(bundle.repo, current)
        sizes = self.sizes(prefix)
        whole = (entry for entry in current.files if sizes.get(entry.path) == entry.size_bytes)
        return _State(data, present, {entry.sha256: f"{prefix}/{entry.path}" for entry in whole})

    def _fill(self, bundle: Bundle, state: _State, progress: Progress) -> int:
        """Bring what the release's prefix lacks: from the current release, within the store, or from here."""
        prefix, missing = self._prefix(bundle.repo, listing_of(bundle)), state.missing(bundle)
        sent_bytes = sum(file.size_bytes for file in missing)
        with progress.stage("upload", sent_bytes) as advance:
            for file in state.lacking(bundle):
                path = f"{prefix}/{file.path}"
                if file in missing:
                    self.put(path, blocks(file, advance), file.size_bytes)
                else:
                    self.make_folder(path)
                    self.files.cp_file(state.near[file.sha256], path)
        return sent_bytes

    def _current(self, repo: str) -> tuple[bytes | None, Listing | None]:
        """Read the list that names the current release, if one was published."""
        data = self.read(f"{self._base(repo)}/{NAME}", LARGEST_BYTES + 1)
        return data, None if data is None else parse(data, f"{self._place(repo)}/{NAME}")

    def _base(self, repo: str) -> str:
        return f"{self.root}/{name_of(repo)}"

    def _prefix(self, repo: str, listing: Listing) -> str:
        return f"{self._base(repo)}/{listing.version}"

    def _place(self, repo: str) -> str:
        return f"{self.address}/{name_of(repo)}"


DESTINATION = ObjectDestination
