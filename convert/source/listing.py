"""The files of a model, and which of them a conversion needs."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Literal

from convert.errors import Failure
from convert.strict_json import parse_object

Kind = Literal["model", "dataset"]  # what the Hub calls a repo's type


@dataclass(frozen=True)
class FileDigest:
    """The known digests of a file: the Hub gives sha256 for LFS files, git_sha1 for the rest."""

    size_bytes: int
    sha256: str | None = None
    git_sha1: str | None = None

    @property
    def blob(self) -> str | None:
        """Return the digest by which the Hub names the content."""
        return self.sha256 or self.git_sha1

    def proves(self, expected: "FileDigest") -> bool:
        """Return whether everything that is expected is known and equal."""
        return self.size_bytes == expected.size_bytes and all(
            wanted in (None, found)
            for wanted, found in ((expected.sha256, self.sha256), (expected.git_sha1, self.git_sha1))
        )


@dataclass(frozen=True)
class Listing:
    """The files of a model before any is fetched: a Hub repo at a commit, or a local folder."""

    model: str
    repo: str | None
    commit: str | None
    folder: Path | None
    files: Mapping[str, FileDigest]
    kind: Kind = "model"


@dataclass(frozen=True)
class Pinned:
    """Checked files on disk, and the weights that `fetch_small` left out."""

    folder: Path
    repo: str | None
    commit: str | None
    files: Mapping[str, FileDigest]
    pending: Mapping[str, FileDigest] = field(default_factory=dict)


# In the order that Transformers looks for them; the first that is there is the model.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# A LoRA adapter's, as PEFT saves it; of its weights the first that is there.
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_INDEX = ".index.json"
CARD = "README.md"
_SMALL = frozenset({
    "config.json", "generation_config.json",
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "tekken.json", "vocab.json",
    "merges.txt",
    "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "chat_template.json",
    CARD, "hf_quant_config.json", "preprocessor_config.json", "processor_config.json",
})  # fmt: skip
# Both spellings of license occur, and "Tongyi Qianwen LICENSE AGREEMENT".
MAX_LEGAL_BYTES = 16 << 20
_LEGAL = re.compile(r"(?i)[^/]*(licen[sc]e|notice|copying|use_policy)[^/]*")


def is_escaping(name: str) -> bool:
    """Return whether this name leaves its folder on any system, or has control characters."""
    # As Windows reads it, with both separators, drives and UNC shares.
    path = PureWindowsPath(name)
    is_control = any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
    return not name or is_control or bool(path.drive or path.root) or ".." in path.parts


def refuse_escaping(names: Iterable[str], where: str) -> None:
    """Refuse a source that has a name outside of its folder, which cannot be an accident."""
    for name in names:
        if is_escaping(name):
            what = f"{where}: the file name {name!r} leaves the model's folder"
            raise Failure(what, "do not trust this source; nothing was downloaded")


def is_gguf(listing: Listing) -> bool:
    """Return whether GGUF files are the only weights."""
    has_others = any(name in listing.files for name in WEIGHTS)
    return not has_others and any(name.endswith(".gguf") for name in listing.files)


def weights_entry(listing: Listing) -> str:
    """Return the file of the weights, or the index that names the shards."""
    for name in WEIGHTS:
        if name in listing.files:
            return name
    if any(re.fullmatch(r".*-\d+-of-\d+\.(safetensors|bin)", name) for name in listing.files):
        hint = "it holds shards without an index: add model.safetensors.index.json"
    else:
        hint = f"one of these is needed: {', '.join(WEIGHTS)}"
    raise Failure(f"{listing.model}: no weights that can be read", hint)


def small_files(listing: Listing) -> tuple[str, ...]:
    """Return everything that a conversion needs except the weights, but with the index of their shards."""
    if "config.json" not in listing.files:
        raise Failure(f"{listing.model}: no config.json", "name a model in Transformers' format")
    entry = weights_entry(listing)
    needed = {name for name in listing.files if _is_small(name)}
    for name in filter(is_legal, needed):
        if listing.files[name].size_bytes > MAX_LEGAL_BYTES:
            what = f"{listing.model}: {name} has {listing.files[name].size_bytes} bytes"
            raise Failure(what, "no license is so long, and it would have to go with every artifact")
    return tuple(sorted(needed | {entry} if entry.endswith(_INDEX) else needed))


def is_adapter(listing: Listing) -> bool:
    """Return whether this is a LoRA adapter without the model that it belongs to."""
    return ADAPTER_CONFIG in listing.files and not any(name in listing.files for name in WEIGHTS)


def adapter_files(listing: Listing) -> tuple[str, ...]:
    """Return what a conversion needs of an adapter: its weights and config, its card and its licenses."""
    weights = next((name for name in ADAPTER_WEIGHTS if name in listing.files), None)
    if ADAPTER_CONFIG not in listing.files or weights is None:
        lacking = ADAPTER_CONFIG if weights else ADAPTER_WEIGHTS[0]
        hint = "`adapter:` names a LoRA adapter that PEFT saved; a whole model goes to `model:`"
        raise Failure(f"{listing.model}: no {lacking}", hint)
    texts = {name for name in listing.files if name == "README.md" or is_legal(name)}
    return tuple(sorted({ADAPTER_CONFIG, weights, *texts}))


def _is_small(name: str) -> bool:
    return name in _SMALL or ("/" not in name and name.endswith(".tiktoken")) or is_legal(name)


def is_legal(name: str) -> bool:
    """Return whether this is a license or notice, which must accompany every derivative."""
    return _LEGAL.fullmatch(name) is not None and not name.startswith(".")


def weight_files(listing: Listing, read: Callable[[str], bytes]) -> tuple[str, ...]:
    """Return the files that hold the weights; `read` gives the content of the index."""
    entry = weights_entry(listing)
    if not entry.endswith(_INDEX):
        return (entry,)
    where = f"{listing.model}: {entry}"
    again = "the index is damaged; fetch the model again"
    named = parse_object(read(entry), where, again).get("weight_map")
    if not isinstance(named, dict):
        raise Failure(f"{where} has no weight_map", again)
    if not named or not all(isinstance(shard, str) for shard in named.values()):
        raise Failure(f"{where} names no shards", again)
    shards = set(named.values())
    refuse_escaping(shards, where)
    suffix = entry.removesuffix(_INDEX).rpartition(".")[2]
    for shard in sorted(shards):
        if shard not in listing.files or "/" in shard or not shard.endswith(f".{suffix}"):
            raise Failure(f"{where} names {shard!r}, which is not there", "the model is incomplete")
    return tuple(sorted(shards))


def list_folder(model: str, folder: Path) -> Listing:
    """List the files at the top of a local folder; digests are computed when they are fetched."""
    try:
        there = sorted(folder.iterdir())
        paths = [path for path in there if path.is_file()]
        for path in there:
            if is_legal(path.name) and not path.is_file() and not path.is_dir():
                what = f"{path}: neither a file nor a folder, and a license has to go with every artifact"
                raise Failure(what, "replace it by the license itself")
        files = {path.name: FileDigest(path.stat().st_size) for path in paths}
    except OSError as error:
        raise Failure(f"{folder}: cannot be read: {error.strerror}", "check its permissions") from None
    return Listing(model, None, None, folder, files)
