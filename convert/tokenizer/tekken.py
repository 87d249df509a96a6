"""tekken.json: the bytes of each token by rank, the special tokens before them, and how text is split."""

import binascii
from pathlib import Path
from typing import Any, TypeGuard

from convert.errors import Failure
from convert.model.family import Split
from convert.tokenizer.bytelevel import spell
from convert.tokenizer.document import Document, split_steps, starting_with
from convert.tokenizer.file import BROKEN, Json, read_object
from convert.tokenizer.model import AddedToken
from convert.tokenizer.rank import recover_merges

_ROLES = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>"}
_FILLER = "<SPECIAL_{}>"  # its publishers' name for one that the file leaves unnamed


def read_tekken(path: Path) -> Document:
    """Read a tekken.json; ids count the special tokens first."""
    content = read_object(path)
    config = content.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("pattern"), str):
        raise Failure(f"{path.name}: config.pattern is missing", BROKEN)
    special = _special(content, config, path.name)
    ranks = _ranks(content.get("vocab"), config, len(special), path.name)
    merges = recover_merges(ranks, path.name)
    spellings = {token: spell(token) for token in ranks}
    roles = {role: token for role, token in _ROLES.items() if token in special}
    steps = split_steps(Split(config["pattern"]))
    if "bos" in roles:
        steps["post_processor"] = starting_with(roles["bos"])
    return Document(
        origin=path.name,
        vocab={spellings[token]: len(special) + rank for token, rank in ranks.items()},
        merges=tuple((spellings[left], spellings[right]) for left, right in merges),
        added=tuple(AddedToken(rank, token, special=True) for rank, token in enumerate(special)),
        ignore_merges=True,
        roles=roles,
        **steps,
    )


def _special(content: dict[str, Json], config: dict[str, Json], name: str) -> list[str]:
    """List the special tokens by rank, with fillers up to the number that the file reserves."""
    entries = content.get("special_tokens")
    if entries is None:
        what = f"{name}: an early form, which does not list its special_tokens"
        raise Failure(what, "add the tokenizer.json of the model")
    if not isinstance(entries, list):
        raise Failure(f"{name}: special_tokens is not a JSON array", BROKEN)
    tokens: dict[int, str] = {}
    for index, entry in enumerate(entries):
        token = entry if isinstance(entry, dict) else {}
        rank, text = token.get("rank"), token.get("token_str")
        if not _is_rank(rank) or not isinstance(text, str) or not text:
            raise Failure(f"{name}: special_tokens[{index}]: a rank and a token_str were expected", BROKEN)
        if tokens.setdefault(rank, text) != text:
            raise Failure(f"{name}: special_tokens[{index}]: the rank {rank} is taken", BROKEN)
    if sorted(tokens) != list(range(len(tokens))):
        raise Failure(f"{name}: the ranks of special_tokens do not count from 0 up", BROKEN)
    reserved = config.get("default_num_special_tokens", len(tokens))
    if not _is_rank(reserved) or reserved < len(tokens):
        what = f"{name}: default_num_special_tokens is {reserved!r}, and it has {len(tokens)}"
        raise Failure(what, BROKEN)
    return [tokens.get(rank, _FILLER.format(rank)) for rank in range(reserved)]


def _ranks(entries: Any, config: dict[str, Json], special: int, name: str) -> dict[bytes, int]:
    """Read the bytes of each token; the file may hold more than the model knows."""
    if not isinstance(entries, list) or not entries:
        raise Failure(f"{name}: vocab is missing, or not a JSON array", BROKEN)
    size = config.get("default_vocab_size", len(entries) + special)
    if not _is_rank(size) or not special < size <= len(entries) + special:
        what = (
            f"{name}: default_vocab_size is {size!r}, and it has {len(entries)} tokens and {special} special"
        )
        raise Failure(what, BROKEN)
    ranks: dict[bytes, int] = {}
    for rank, entry in enumerate(entries[: size - special]):
        encoded = entry.get("token_bytes") if isinstance(entry, dict) else None
        try:
            token = binascii.a2b_base64(encoded or "", strict_mode=True)
        except (TypeError, ValueError):
            token = b""
        if not token or entry.get("rank", rank) != rank:
            raise Failure(f"{name}: vocab[{rank}]: the token_bytes of rank {rank} were expected", BROKEN)
        if ranks.setdefault(token, rank) != rank:
            raise Failure(f"{name}: vocab[{rank}]: the bytes of rank {ranks[token]} again", BROKEN)
    return ranks


def _is_rank(value: Json) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
