"""The Hub: one commit upon the state that was looked at, or none; then everything is read back."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from convert.errors import Failure, UsageFailure
from convert.publish.bundle import README
from convert.publish.destination import Contents, Destination, Moved, Sent, Survey
from convert.publish.hub.session import ANSWER_S, Damaged, Session, signed_in, token_at_hand
from convert.publish.hub.upload import upload
from convert.publish.listing import pieces
from convert.source.hub import client
from convert.source.retry import Transient
from convert.store.objects import RERUN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from huggingface_hub.hf_api import GitRefs, RepoFile

    from convert.progress import Progress
    from convert.publish.bundle import Bundle, ShippedFile
    from convert.source import Hub

# What the Hub itself puts into a new repo.
_BY_THE_HUB = ".gitattributes"
# Files of up to this size are fetched when they are read back; of larger ones the Hub's digests are compared.
_FETCHED_BYTES = 1 << 20
_MOST_PROPOSALS = 20
_TITLE_LENGTH = 100  # at most, of a commit's first line


@dataclass
class HubDestination(Destination):
    """The repos of the Hub that the user may write to."""

    hub: Hub
    answer_s: float = ANSWER_S
    _open: ExitStack = field(default_factory=ExitStack, init=False, repr=False)

    SCHEMES = ("hub",)
    SETTINGS = frozenset({"private", "pull_request", "collection"})

    @classmethod
    def at(cls, address: str, hub: Hub) -> HubDestination:
        if address.partition("://")[2]:
            raise UsageFailure(f"publish.to: {address}: publish.repo names the Hub's repos", "write hub://")
        return cls(hub)

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @cached_property
    def session(self) -> Session:
        """Sign in when the Hub is first asked."""
        return self._open.enter_context(signed_in(self.hub, self.answer_s))

    def user(self) -> str:
        return self.session.user

    def unreachable(self) -> str | None:
        if self.hub.is_offline:
            return "offline"
        return None if token_at_hand(self.hub) else "not logged in"

    def manner(self, bundle: Bundle) -> str:
        how = "a pull request" if bundle.is_pull_request else f"one commit to {bundle.revision}"
        tag = f", tagged {bundle.tag}" if bundle.tag else ""
        return f"{how}{tag}{f', in the collection {bundle.collection!r}' if bundle.collection else ''}"

    def look(self, repo: str, revision: str) -> Contents:
        """See what the branch holds, or main, which a new branch begins as."""
        refs = self._refs(repo)
        return Contents(None) if refs is None else self._contents(repo, _head(refs, repo, revision))

    def survey(self, bundle: Bundle) -> Survey:
        """Compare the branch with the bundle; refuse a public repo for a private bundle, and a tag in use."""
        refs = self._refs(bundle.repo)
        if refs is None:
            return Contents(None).survey(self._page(bundle), bundle)
        is_private = self._require_private(bundle)
        head = _head(refs, bundle.repo, bundle.revision)
        survey = replace(self._survey(bundle, head), is_private=is_private)
        tagged = _tags(refs).get(bundle.tag or "")
        if tagged and (survey if tagged == head else self._survey(bundle, tagged)).missing:
            raise Failure(
                f"{bundle.repo}: the tag {bundle.tag} already names something else ({tagged[:12]})",
                "choose another publish.tag, or remove that one on the Hub",
            )
        return survey

    def send(self, bundle: Bundle, survey: Survey, progress: Progress) -> Sent:
        """Upload what is missing, then show it with one commit, or propose it with one pull request."""
        if not survey.exists:
            survey = self._create(bundle)
        if survey.head is None:
            raise ValueError(f"{bundle.repo}: a repo without a head")
        self._require_branch(bundle, survey.head)
        revision, sent_bytes = self._published(bundle, survey), 0
        is_new = revision is None
        if revision is None:
            self._require_valid_card(bundle.repo, survey.missing)
            with progress.stage("upload", survey.missing_bytes) as advance:
                operations = upload(self.session, bundle, survey.missing, advance)
            revision, sent_bytes = self._commit(bundle, survey, operations), survey.missing_bytes
        self._compare(bundle, revision)
        if bundle.tag is not None:
            self._tag(bundle, bundle.tag, revision)
        if bundle.collection is not None:
            self._collect(bundle, bundle.collection)
        return Sent(survey.place, revision, sent_bytes, is_new=is_new)

    def read_back(self, bundle: Bundle, sent: Sent, progress: Progress) -> None:
        """Compare the digests of all files with the bundle's, and fetch the small ones."""
        revision = str(sent.revision)
        self._compare(bundle, revision)
        small = [file for file in bundle.files if file.size_bytes <= _FETCHED_BYTES]
        with progress.stage("read back", sum(file.size_bytes for file in small)) as advance:
            for file in small:
                self._fetch(bundle.repo, revision, file)
                advance(file.size_bytes)

    def _page(self, bundle: Bundle) -> str:
        return f"{self.hub.endpoint}/{bundle.repo}"

    def _refs(self, repo: str, *, has_proposals: bool = False) -> GitRefs | None:
        """List branches, tags and, if wanted, pull requests; None where no repo of that name is visible."""
        api, errors = self.session.api, client().errors

        def look() -> GitRefs | None:
            try:
                return api.list_repo_refs(repo, include_pull_requests=has_proposals)
            except errors.RepositoryNotFoundError:
                return None

        return self.session.ask(repo, look)

    def _require_private(self, bundle: Bundle) -> bool:
        """Say whether the repo is private, which a private bundle needs."""
        info = self.session.ask(bundle.repo, lambda: self.session.api.model_info(bundle.repo))
        if bundle.is_private and not info.private:
            raise Failure(
                f"{bundle.repo}: the repo is public, and the recipe publishes privately",
                "say `private: false` under publish:, or make the repo private on the Hub",
            )
        return bool(info.private)

    def _contents(self, repo: str, commit: str) -> Contents:
        """List the files of a commit."""
        from huggingface_hub.hf_api import RepoFolder as folder  # noqa: N813, PLC0415 - imported late

        def look() -> dict[str, RepoFile]:
            entries = self.session.api.list_repo_tree(repo, recursive=True, revision=commit)
            return {entry.path: entry for entry in entries if not isinstance(entry, folder)}

        listed = self.session.ask(repo, look, retries_itself=True)
        return Contents(
            commit, frozenset(listed) - {_BY_THE_HUB}, lambda file: _is_same(file, listed.get(file.path))
        )

    def _survey(self, bundle: Bundle, commit: str) -> Survey:
        return self._contents(bundle.repo, commit).survey(self._page(bundle), bundle)

    def _create(self, bundle: Bundle) -> Survey:
        """Create the repo, and look at what the Hub puts into it; somebody else may have been faster."""
        create = partial(self.session.api.create_repo, repo_type="model", exist_ok=True)
        self.session.ask(bundle.repo, lambda: create(bundle.repo, private=bundle.is_private))
        made = self.survey(bundle)
        if made.head is None:
            raise Failure(
                f"{bundle.repo}: created, but your token cannot see it", "check that your token may read it"
            )
        if made.missing and self._contents(bundle.repo, made.head).paths:
            raise self._moved(bundle)
        return made

    def _require_valid_card(self, repo: str, missing: Iterable[ShippedFile]) -> None:
        """Let the Hub read the card before gigabytes follow; the commit would fail by it."""
        url = f"{self.hub.endpoint}/api/validate-yaml"
        for card in (file for file in missing if file.path == README):
            asked = {"content": card.read().decode(), "repoType": "model"}
            self.session.ask(repo, partial(self.session.request, "POST", url, asked), file=README)

    def _require_branch(self, bundle: Bundle, head: str) -> None:
        refs = None if bundle.revision == "main" else self._refs(bundle.repo)
        if refs is None or any(branch.name == bundle.revision for branch in refs.branches):
            return
        create = partial(self.session.api.create_branch, bundle.repo, exist_ok=True)
        self.session.ask(bundle.repo, lambda: create(branch=bundle.revision, revision=head))

    def _published(self, bundle: Bundle, survey: Survey) -> str | None:
        """Find the commit that holds the bundle already: the branch's own, or that of a pull request."""
        if not survey.missing:
            return survey.head
        refs = self._refs(bundle.repo, has_proposals=True) if bundle.is_pull_request else None
        proposals = [pull.target_commit for pull in (refs.pull_requests or ())] if refs else []
        recent = proposals[::-1][:_MOST_PROPOSALS]
        return next((commit for commit in recent if not self._survey(bundle, commit).missing), None)

    def _commit(self, bundle: Bundle, survey: Survey, operations: Sequence[Any]) -> str:
        """Make the one commit. Where the answer is lost, the digests show whether it was made."""
        backoff = self.session.backoff(bundle.repo)
        commit = partial(
            self.session.api.create_commit,
            bundle.repo,
            operations,
            commit_message=_message(bundle),
            revision=bundle.revision,
            parent_commit=survey.head,
            create_pr=bundle.is_pull_request,
        )
        while True:
            try:
                return str(self.session.once(bundle.repo, commit).oid)
            except (Transient, Moved) as problem:
                now = self.survey(bundle)
                made = self._published(bundle, now)
                if made is not None:
                    return made
                if isinstance(problem, Moved):
                    raise
                if now.head != survey.head:
                    raise self._moved(bundle) from None
                backoff.wait(problem)

    def _compare(self, bundle: Bundle, revision: str) -> None:
        for file in self._survey(bundle, revision).missing:
            raise Failure(f"{bundle.repo}/{file.path}: at {revision[:12]} it is not what was sent", RERUN)

    def _fetch(self, repo: str, revision: str, file: ShippedFile) -> None:
        """Fetch a file and compare; a body that was damaged on its way is fetched again."""
        url = client().hf_hub_url(repo, file.path, revision=revision, endpoint=self.hub.endpoint)

        def fetch() -> None:
            if hashlib.sha256(self.session.request("GET", url).content).hexdigest() != file.sha256:
                raise Damaged("what came back is not what was sent")

        self.session.ask(repo, fetch, file=file.path)

    def _tag(self, bundle: Bundle, tag: str, revision: str) -> None:
        """Tag what was compared."""

        def tagged() -> str | None:
            refs = self._refs(bundle.repo)
            return _tags(refs).get(tag) if refs else None

        if tagged() is None:
            create = partial(self.session.api.create_tag, bundle.repo, exist_ok=True)
            self.session.ask(bundle.repo, lambda: create(tag=tag, revision=revision))
        found = tagged()
        if found != revision and (found is None or self._survey(bundle, found).missing):
            raise Failure(
                f"{bundle.repo}: published as {revision[:12]}, but the tag {tag} names something else",
                "choose another publish.tag, or remove that one on the Hub",
            )

    def _collect(self, bundle: Bundle, title: str) -> None:
        """Put the repo into the collection of that title."""
        api, owner = self.session.api, bundle.repo.partition("/")[0]

        def collect() -> list[str]:
            found = api.create_collection(title, namespace=owner, private=bundle.is_private, exists_ok=True)
            whole = api.add_collection_item(found.slug, bundle.repo, "model", exists_ok=True)
            return [item.item_id for item in whole.items]

        if bundle.repo not in self.session.ask(bundle.repo, collect):
            raise Failure(f"{bundle.repo}: published, but not in the collection {title!r}", RERUN)

    def _moved(self, bundle: Bundle) -> Moved:
        return Moved(bundle.repo, f"{self._page(bundle)}/commits/{bundle.revision}")


def _head(refs: GitRefs, repo: str, revision: str) -> str:
    heads = {branch.name: branch.target_commit for branch in refs.branches}
    head = heads.get(revision) or heads.get("main")
    if head is None:
        raise Failure(f"{repo}: it has neither {revision} nor main", "look at it on the Hub")
    return head


def _tags(refs: GitRefs) -> dict[str, str]:
    return {tag.name: tag.target_commit for tag in refs.tags}


def _is_same(file: ShippedFile, entry: RepoFile | None) -> bool:
    """Compare a file with what the Hub lists at its path."""
    if entry is None or entry.size != file.size_bytes:
        return False
    return entry.lfs.sha256 == file.sha256 if entry.lfs is not None else entry.blob_id == _git_sha1(file)


def _git_sha1(file: ShippedFile) -> str:
    """Digest the content as git does; the Hub keeps only small files in git."""
    hasher = hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)
    for piece in pieces(file, 0, file.size_bytes):
        hasher.update(piece)
    return hasher.hexdigest()


def _message(bundle: Bundle) -> str:
    targets = ", ".join(candidate.target for candidate in bundle.candidates)
    text = f"Publish {bundle.title}: {targets}"
    return text if len(text) <= _TITLE_LENGTH else f"{text[: _TITLE_LENGTH - 1]}…"


DESTINATION = HubDestination
