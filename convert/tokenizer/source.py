"""The kinds of files that a vocabulary may come from, each read into the same document."""

from pathlib import Path
from typing import Any

from convert.errors import Failure
from convert.model.families import family, supported
from convert.model.family import Split, Tokenizer
from convert.tokenizer.bytelevel import spell
from convert.tokenizer.document import Document, read_document, split_steps
from convert.tokenizer.file import BROKEN, read_object, read_text
from convert.tokenizer.model import AddedToken
from convert.tokenizer.pieces import from_pieces
from convert.tokenizer.rank import read_ranks, recover_merges
from convert.tokenizer.special import ConfigFiles, renamed_tokens
from convert.tokenizer.tekken import read_tekken


def find_document(folder: Path, model_type: str, files: ConfigFiles, vocab_size: int) -> Document:
    """Read the vocabulary of the checkpoint in `folder`."""
    if (folder / "tokenizer.json").is_file():
        return read_document(read_object(folder / "tokenizer.json"), "tokenizer.json")
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _from_vocab(folder, model_type, files.tokenizer)
    if (folder / "tokenizer.model").is_file():
        return from_pieces(folder / "tokenizer.model", files.tokenizer, renamed_tokens(files))
    if (folder / "tekken.json").is_file():
        return read_tekken(folder / "tekken.json")
    ranks = sorted(folder.glob("*.tiktoken"))
    known = family(model_type).tokenizer
    if len(ranks) == 1 and known.ranked_special and known.split:
        return _from_ranks(ranks[0], vocab_size, known.ranked_special, known.split)
    if len(ranks) > 1:
        raise Failure(f"{ranks[0].name} and {ranks[1].name}: which of them is the vocabulary?")
    if ranks:
        what = f"{ranks[0].name}: how {model_type!r} splits text is not written in it"
        raise Failure(what, "add the tokenizer.json of the model")
    if (folder / "tiktoken.model").is_file():
        what = "tiktoken.model: how text is split is written in the repo's code, which is never run"
        raise Failure(what, "add the tokenizer.json of the model")
    wanted = "tokenizer.json, or vocab.json and merges.txt, tokenizer.model, tekken.json or a .tiktoken file"
    raise Failure("the checkpoint has no tokenizer", f"wanted: {wanted}")


def _from_vocab(folder: Path, model_type: str, settings: dict[str, Any]) -> Document:
    name = str(settings.get("tokenizer_class", "")).removesuffix("Fast")
    split = (_of_class(name) or family(model_type).tokenizer).split
    if split is None:
        what = f"vocab.json, merges.txt: how {name or model_type!r} splits text is not written in them"
        raise Failure(what, "add the tokenizer.json of the model")
    vocab = read_object(folder / "vocab.json")
    merges = _read_merges(folder / "merges.txt", vocab)
    return Document(origin="vocab.json", vocab=vocab, merges=merges, added=(), **split_steps(split))


def _of_class(name: str) -> Tokenizer | None:
    """Find the family whose tokenizer Transformers calls by this name."""
    known = (family(model_type).tokenizer for model_type in supported())
    return next((each for each in known if name in each.classes), None)


def _read_merges(path: Path, vocab: dict[str, int]) -> tuple[tuple[str, str], ...]:
    merges = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if (number == 1 and line.startswith("#version")) or not line.strip("\r"):
            continue
        pair = line.rstrip("\r").split(" ")
        if len(pair) != 2 or not all(pair):
            raise Failure(f"{path.name}:{number}: not two tokens with a space between", BROKEN)
        for token in (*pair, "".join(pair)):
            if token not in vocab:
                raise Failure(f"{path.name}:{number}: {token!r} is not in vocab.json", BROKEN)
        merges.append((pair[0], pair[1]))
    return tuple(merges)


def _from_ranks(path: Path, vocab_size: int, special: tuple[str, ...], split: Split) -> Document:
    ranks = read_ranks(path)
    merges = recover_merges(ranks, path.name)
    spellings = {token: spell(token) for token in ranks}
    first = max(ranks.values()) + 1
    room = max(vocab_size - first, 3)
    return Document(
        origin=path.name,
        vocab={spellings[token]: rank for token, rank in ranks.items()},
        merges=tuple((spellings[left], spellings[right]) for left, right in merges),
        added=tuple(
            AddedToken(first + index, content, special=True) for index, content in enumerate(special[:room])
        ),
        **split_steps(split),
    )
