"""tokenizer.model alone: what sentencepiece itself makes of text, in the canonical form and in llama.cpp."""

from __future__ import annotations

import json
import math
import random
import re
import struct
from typing import Any

import pytest
from tokenizers import Tokenizer as Encoder

from convert.errors import Failure
from convert.formats.gguf.vocabulary import vocabulary_deviations, vocabulary_fields
from convert.formats.onnx.vocabulary import files as onnx_files
from convert.tokenizer import Kind, Tokenizer, TokenType, load
from tests.tokenizer.test_tokenizer_agreement import STRINGS, encoders
from tests.tokenizer.trained import FORMS, model_bytes, processor, trained_folder
from tests.tokenizer.vocabularies import new_folder, write_json
from tests.tokenizer.vocabulary_runtime import Runtime

# The library's unigram finds these in plain text too; sentencepiece and llama.cpp do not.
SPELLED = re.compile(r"<s>|</s>|<unk>|<0x0A>|<start_of|<end_of|<b>")
PLAIN = [text for text in STRINGS if not SPELLED.search(text)]
# Cut the same text into pieces of the same sum.
TIES = ("3--- e.", "\n\n\n\n\na \t\n\t\t")


def opened(form: str, **settings: Any) -> Tokenizer:
    """What a checkpoint with this tokenizer.model comes to."""
    return load(trained_folder(form, **settings), "llama", {}, 1500)


def encoded(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """What Hugging Face's library makes of our file."""
    return encoders(Encoder.from_str(tokenizer.json.decode()))[False](texts)


def different(form: str, ours: list[list[int]]) -> list[str]:
    """The texts that sentencepiece takes apart differently."""
    theirs = [processor(form).encode(text) for text in PLAIN]
    return [text for text, one, other in zip(PLAIN, ours, theirs, strict=True) if one != other]


@pytest.mark.parametrize("form", FORMS)
def test_canonical_file_agrees_with_sentencepiece(form: str) -> None:
    found = different(form, encoded(opened(form), PLAIN))
    if form == "unigram-plain":
        found = [text for text in found if not any(tie in text for tie in TIES)]
    if form == "bpe-no-prefix":  # 31 is the longest piece, and merges cut longer runs in the middle
        found = [text for text in found if " " * 32 not in text]
    assert found == []


@pytest.mark.parametrize("form", ["bpe", "bpe-no-prefix", "unigram", "unigram-plain"])
def test_llama_cpp_agrees_with_the_canonical_file(form: str) -> None:
    tokenizer = opened(form)
    runtime = Runtime(tokenizer, new_folder() / "v.gguf")
    texts = [text for text in PLAIN if form != "unigram-plain" or text.strip(" ") or not text]
    if form == "bpe-no-prefix":
        texts = [text for text in texts if " " * 32 not in text]
        assert any("more than 31 spaces" in line for line in vocabulary_deviations(tokenizer))
    theirs = [runtime.encode(text, special=False) for text in texts]
    ours = encoded(tokenizer, texts)
    assert [text for text, one, other in zip(texts, ours, theirs, strict=True) if one != other] == []
    said = [line for line in vocabulary_deviations(tokenizer) if "spaces alone" in line]
    assert bool(said) is (form == "unigram-plain")
    text = "Hello, 世界"
    assert (
        runtime.encode(text, special=True, wrapped=True)
        == Encoder.from_str(tokenizer.json.decode()).encode(text).ids
    )
    spelt = b"".join(map(runtime.piece, runtime.encode("planets are", special=False))).decode()
    assert spelt == ("" if form == "bpe-no-prefix" else " ") + "planets are"


@pytest.mark.parametrize("form", FORMS)
def test_text_comes_back(form: str) -> None:
    decoder = Encoder.from_str(opened(form).json.decode())
    for text in ("planets are right", "answer, 3 1"):
        assert decoder.decode(decoder.encode(text, add_special_tokens=False).ids) == text


def test_roles_are_those_of_the_model() -> None:
    plain, other = opened("bpe"), opened("bpe-no-prefix")
    assert (plain.unk_id, plain.bos_id, plain.eos_id, plain.pad_id, plain.add_bos) == (0, 1, 2, None, True)
    assert (other.pad_id, other.eos_id, other.bos_id, other.unk_id) == (0, 1, 2, 3)
    assert plain.types[:4] == (TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, TokenType.BYTE)
    assert other.types[other.tokens.index("<b>")] is TokenType.USER_DEFINED
    assert not opened("bpe", add_bos_token=False).add_bos
    named = opened("bpe", eos_token="<s>", pad_token="</s>")  # noqa: S106
    assert (named.eos_id, named.pad_id) == (1, 2)


def test_scores_are_those_of_the_model() -> None:
    for form, kind in (("bpe", Kind.SPM_BPE), ("unigram", Kind.UNIGRAM)):
        tokenizer, model = opened(form), processor(form)
        assert tokenizer.kind is kind
        assert tokenizer.scores is not None
        expected = [model.get_score(identity) for identity in range(model.vocab_size())]
        assert list(tokenizer.scores[: len(expected)]) == expected
        assert {token: place for place, token in enumerate(tokenizer.tokens[: len(expected)])} == {
            model.id_to_piece(place): place for place in range(len(expected))
        }


def test_files_beside_it_add_tokens_and_rename_pieces() -> None:
    size = processor("bpe").vocab_size()
    decoder = {"300": {"content": "<|turn|>", "special": True}, str(size): {"content": "<tool>"}}
    folder = trained_folder("bpe", added_tokens_decoder=decoder)
    write_json(folder / "added_tokens.json", {"<more>": size + 1})
    tokenizer = load(folder, "llama", {}, 1500)
    assert (tokenizer.tokens[300], tokenizer.types[300]) == ("<|turn|>", TokenType.CONTROL)
    assert tokenizer.tokens[size : size + 2] == ("<tool>", "<more>")
    runtime = Runtime(tokenizer, folder / "v.gguf")
    for text in ("<|turn|>", "<tool>", "<more>"):
        assert runtime.encode(text, special=True)[-1] == tokenizer.tokens.index(text)
        assert encoders(Encoder.from_str(tokenizer.json.decode()))[True]([text])[0][-1] in (
            300,
            size,
            size + 1,
        )


def test_what_llama_cpp_and_onnxruntime_genai_cannot_do_is_refused() -> None:
    for form, said in (
        ("bpe-nfkc", "llama.cpp does not replace letters before it merges pieces"),
        ("bpe-unknown", "the byte token <0x00> is missing"),
        ("unigram-bytes", "llama.cpp's unigram has no bytes for letters without a piece"),
    ):
        with pytest.raises(Failure, match=said):
            vocabulary_fields(opened(form))
    with pytest.raises(Failure, match="does not read this kind of vocabulary"):
        onnx_files(opened("unigram"))
    with pytest.raises(Failure, match="onnxruntime-genai does not replace letters"):
        onnx_files(opened("bpe-nfkc"))


def test_without_legacy_only_the_beginning_gets_a_space() -> None:
    tokenizer = opened("bpe", legacy=False)
    assert tokenizer.spacing.is_first_only
    assert different("bpe", encoded(tokenizer, PLAIN)) == [text for text in PLAIN if text.startswith(" ")]
    assert any("begins with a space" in line for line in vocabulary_deviations(tokenizer))
    assert not opened("bpe", add_prefix_space=False).spacing.has_prefix


def test_canonical_file_comes_to_itself() -> None:
    for form in FORMS:
        before = opened(form)
        folder = new_folder()
        (folder / "tokenizer.json").write_bytes(before.json)
        write_json(folder / "tokenizer_config.json", before.config)
        after = load(folder, "llama", {}, 1500)
        assert after.json == before.json
        assert (after.tokens, after.types, after.kind) == (before.tokens, before.types, before.kind)


@pytest.mark.slow
def test_transformers_agrees() -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415  (seconds to import)

    for form, model_type, settings in (
        ("bpe", "llama", {"tokenizer_class": "LlamaTokenizer", "legacy": False}),
        ("bpe-no-prefix", "gemma", {"tokenizer_class": "GemmaTokenizer"}),
    ):
        folder = trained_folder(form, **settings)
        write_json(folder / "config.json", {"model_type": model_type, "vocab_size": 1500})
        theirs = AutoTokenizer.from_pretrained(folder)
        ours = load(folder, model_type, {}, 1500)
        expected = [theirs(text, add_special_tokens=False)["input_ids"] for text in PLAIN]
        assert encoded(ours, PLAIN) == expected


def fault(content: bytes) -> str:
    """What a person reads of a damaged tokenizer.model."""
    folder = new_folder()
    (folder / "tokenizer.model").write_bytes(content)
    with pytest.raises(Failure) as caught:
        load(folder, "llama", {}, 1500)
    assert "\n" not in caught.value.message
    assert caught.value.hint
    assert caught.value.message.startswith("tokenizer.model: ")
    return caught.value.message


def test_every_cut_is_one_line() -> None:
    whole = model_bytes("unigram")
    normalizer = whole.rindex(b"nmt_nfkc")
    for length in (0, 1, 2, 5, 40, *range(100, normalizer, 997), *range(normalizer - 40, normalizer)):
        fault(whole[:length])
    assert fault(b"") == "tokenizer.model: a sentencepiece model without pieces: it is cut short"


@pytest.mark.parametrize("count", [40, pytest.param(600, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["bpe", "unigram"])
def test_flipped_bits_give_a_tokenizer_or_one_line(form: str, count: int) -> None:
    """No library panics, at reading or at use: what is damaged is refused before."""
    seeded, refused = random.Random(count), []
    folder, whole = new_folder(), model_bytes(form)
    table = max(whole.find(b"nmt_nfkc"), 0)
    for number in range(count):
        changed = bytearray(whole)
        first = table if number % 2 else 0
        changed[seeded.randrange(first, len(whole))] ^= 1 << seeded.randrange(8)
        (folder / "tokenizer.model").write_bytes(changed)
        try:
            tokenizer = load(folder, "llama", {}, 1500)
            vocabulary_fields(tokenizer)
        except Failure as failure:
            refused.append(failure.message)
        else:
            Encoder.from_str(tokenizer.json.decode()).encode("½ ﬁ é 世界  a")
    assert refused
    assert not any("\n" in message for message in refused)


def test_a_table_of_letters_that_is_cut_is_one_line() -> None:
    whole = model_bytes("unigram")
    start = whole.index(b"nmt_nfkc") + len(b"nmt_nfkc")
    damaged = whole[: start + 4] + b"\xff\xff\xff\x7f" + whole[start + 8 :]
    assert fault(damaged) == "tokenizer.model: the table of letters to replace is damaged"


def message(*fields: tuple[int, object]) -> bytes:
    """A protobuf message, each field with the wire type of its value; all sizes are below 128."""
    made = b""
    for number, value in fields:
        wire = {int: 0, bytes: 2, float: 5}[type(value)]
        tag = number << 3 | wire
        made += bytes([tag] if tag < 128 else [tag & 127 | 128, tag >> 7])
        if isinstance(value, bytes):
            made += bytes([len(value)]) + value
        else:
            made += struct.pack("<f", value) if isinstance(value, float) else bytes([int(str(value))])
    return made


A, B = message((1, b"a"), (2, -1.0)), message((1, b"ab"), (2, -2.0))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([(1, A), (1, A), (2, b""), (3, b"")], "pieces 0 and 1 are both 'a'"),
        ([(1, message((2, -1.0))), (2, b""), (3, b"")], "piece 0 is empty"),
        (
            [(1, message((1, b"a"), (3, 9))), (2, b""), (3, b"")],
            "not a sentencepiece model, or a damaged one",
        ),
        ([(1, message((1, 7))), (2, b""), (3, b"")], "not a sentencepiece model, or a damaged one"),
        ([(1, message((1, b"\xff"))), (2, b""), (3, b"")], "not a sentencepiece model, or a damaged one"),
        ([(1, message((1, b"a"), (2, math.nan))), (2, b""), (3, b"")], "or a damaged one"),
        ([(1, A), (2, 5), (3, b"")], "not a sentencepiece model, or a damaged one"),
        ([(1, A), (2, message((3, 9))), (3, b"")], "of the unknown type 9"),
        ([(1, A), (2, b"")], "a sentencepiece model without settings after its pieces"),
        ([(2, b""), (3, b"")], "a sentencepiece model without pieces"),
    ],
)
def test_a_damaged_model_is_one_line(fields: list[tuple[int, object]], said: str) -> None:
    assert said in fault(message(*fields))


@pytest.mark.parametrize(
    ("pieces", "trainer", "normalizer", "said"),
    [
        ([A], [(3, 3)], [], "a sentencepiece model of type word"),
        ([A], [(24, 1)], [], "treat_whitespace_as_suffix is on"),
        ([A], [], [(5, 0)], "escape_whitespaces is off"),
        ([message((1, b"a"), (3, 5))], [], [], "the piece 'a' is marked unused"),
        ([A, B], [(3, 2)], [], "'b' is no piece, and the piece 'ab' contains it"),
    ],
)
def test_what_a_tokenizer_json_cannot_say(
    pieces: list[bytes], trainer: list[tuple[int, object]], normalizer: list[tuple[int, object]], said: str
) -> None:
    content = message(
        *((1, piece) for piece in pieces),
        (2, message(*trainer)),
        (3, message(*normalizer)),
    )
    assert said in fault(content)


def test_a_letter_that_only_longer_pieces_contain_is_its_byte() -> None:
    """Gemma's first vocabulary has runs of tabs, and no tab."""
    pieces = [message((1, f"<0x{byte:02X}>".encode()), (3, 6)) for byte in range(256)]
    content = b"".join(
        [message((1, piece)) for piece in [*pieces, message((1, b"\t\t"), (2, -1.0))]]
        + [message((2, message((3, 2), (35, 1))), (3, message((3, 0), (4, 0))))]
    )
    folder = new_folder()
    (folder / "tokenizer.model").write_bytes(content)
    tokenizer = load(folder, "llama", {}, 257)
    assert encoded(tokenizer, ["\t\t\t"]) == [[256, 9]]
    assert json.loads(tokenizer.json)["model"]["vocab"]["\t"] == 9


def test_ranks_under_this_name_are_said() -> None:
    assert "tiktoken's ranks" in fault(b"IQ== 0\nIg== 1\n")


def test_unigram_as_transformers_writes_it() -> None:
    """Its conversions leave the beginning to Metaspace, and split at spaces."""
    content = json.loads(opened("unigram").json)
    charsmap = content["normalizer"]["normalizers"][0]
    steps = [
        charsmap,
        {"type": "Strip", "strip_left": False, "strip_right": True},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"},
    ]
    content["normalizer"] = {"type": "Sequence", "normalizers": steps}
    content["pre_tokenizer"] = {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True,
    }  # fmt: skip
    folder = new_folder()
    write_json(folder / "tokenizer.json", content)
    tokenizer = load(folder, "llama", {}, 1500)
    assert tokenizer.spacing.has_prefix
    assert tokenizer.spacing.collapses
    # Its Strip takes off a few characters at the end that sentencepiece does not know as spaces.
    texts = [text for text in PLAIN if text.strip() and text.rstrip() == text.rstrip(" \t\r\n")]
    assert encoded(tokenizer, texts) == encoded(opened("unigram"), texts)
    runtime = Runtime(tokenizer, folder / "v.gguf")
    assert [runtime.encode(text, special=False) for text in texts] == encoded(tokenizer, texts)
