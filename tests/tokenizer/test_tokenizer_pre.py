"""Which of llama.cpp's pre-tokenizers: by the ids of a check text, or by the steps themselves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer

from convert.errors import Failure
from convert.formats.gguf.vocabulary import vocabulary_deviations
from convert.model.splitting import ONE_DIGIT
from convert.tokenizer import load
from convert.tokenizer.facts import Facts
from convert.tokenizer.imitation import SKIP_MERGES, expressions
from convert.tokenizer.pretokenizer import _CHECK_TEXT, identify
from convert.tokenizer.splitter import KNOW_ONLY_ASCII_CASE, NAME_OF_DIGEST, NAMES_OF_STEPS
from tests.tokenizer.splitting import KNOWN, spelled, trained
from tests.tokenizer.test_tokenizer_agreement import STRINGS, differences, encoders, loaded
from tests.tokenizer.vocabularies import LLAMA3_REGEX, new_folder, train_byte_level
from tests.tokenizer.vocabulary_runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("name", "pre"),
    [
        ("gpt2", "gpt-2"),
        pytest.param("qwen", "qwen2", marks=pytest.mark.slow),
        ("small-qwen", "qwen2"),
        ("llama", "llama-bpe"),
        ("mistral", "default"),
        ("gemma", "default"),
    ],
)
def test_families(name: str, pre: str) -> None:
    assert loaded(name).pre == pre


@pytest.mark.parametrize(
    ("name", "digest", "alike"),
    [
        ("gpt2", "3ce83efda5659b07b1ad37ca97ca5797ea4285d9b9ab0dc679e4a720c9da7454", "phi-2"),
        pytest.param(
            "qwen",
            "e636dc30a262dcc0d8c323492e32ae2b70728f4df7dfe9737d9f920a282b8aea",
            "kormo",
            marks=pytest.mark.slow,  # a large vocabulary to read
        ),
    ],
)
def test_check_text_gives_llama_cpps_own_digests(
    name: str, digest: str, alike: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """conversion/base.py has these two for openai-community/gpt2 and Qwen/Qwen1.5-7B."""
    monkeypatch.setattr("convert.tokenizer.pretokenizer.NAME_OF_DIGEST", {digest: alike})
    assert identify(loaded(name).json) == alike


def test_whole_words_and_merges_are_told_apart() -> None:
    """llama-bpe takes a whole word that is a token unmerged, smaug-bpe splits the same and merges."""
    content = json.loads(train_byte_level(LLAMA3_REGEX, 1000).to_str())
    content["normalizer"] = None
    folder = new_folder()
    for skips, pre in ((True, "llama-bpe"), (False, "smaug-bpe")):
        content["model"]["ignore_merges"] = skips
        (folder / "tokenizer.json").write_text(json.dumps(content))
        (folder / "tokenizer_config.json").write_text('{"eos_token": "a"}')
        tokenizer = load(folder, "llama", {}, 1000)
        assert tokenizer.pre == pre
        # "a" has become the special token here, so text is compared that has none.
        runtime = Runtime(tokenizer, folder / "v.gguf")
        theirs = [runtime.encode(text, special=False) for text in STRINGS]
        ours = encoders(Tokenizer.from_str(tokenizer.json.decode()))[False](STRINGS)
        assert differences(theirs, ours) == []


def test_known_steps_decide_against_a_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary whose digest is smollm's, and whose steps are GPT-2's, is split as GPT-2's."""
    tokenizer = trained(KNOWN["gpt-2"], skips_merges=False)
    ids = Tokenizer.from_str(tokenizer.json.decode()).encode(_CHECK_TEXT).ids
    digest = hashlib.sha256(str(ids).encode()).hexdigest()
    monkeypatch.setitem(NAME_OF_DIGEST, digest, "smollm")
    assert identify(tokenizer.json) == "gpt-2"
    monkeypatch.setitem(NAME_OF_DIGEST, digest, "phi-2")  # which splits as gpt-2 does
    assert identify(tokenizer.json) == "phi-2"


def test_a_digest_for_unknown_steps_is_compared_on_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(trained(KNOWN["gpt-2"], skips_merges=False).json)
    content["pre_tokenizer"] = spelled((r"\p{N}{1,2}", *KNOWN["gpt-2"]))
    changed = dataclasses.replace(
        trained(KNOWN["gpt-2"], skips_merges=False),
        json=json.dumps(content).encode(),
        check_digest=None,
        facts=Facts(),
    )
    ids = Tokenizer.from_str(changed.json.decode()).encode(_CHECK_TEXT).ids
    monkeypatch.setitem(NAME_OF_DIGEST, hashlib.sha256(str(ids).encode()).hexdigest(), "smollm")
    assert changed.pre == "smollm"
    assert any('in other places under the name "smollm"' in line for line in vocabulary_deviations(changed))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NAME_OF_DIGEST.values())))
def test_imitations_split_as_llama_cpp_does(name: str) -> None:
    """The expressions that are recorded for a name, behind a vocabulary, against llama.cpp under it."""
    tokenizer = dataclasses.replace(trained(expressions(name), skips_merges=name in SKIP_MERGES))
    tokenizer.__dict__["pre"] = name
    runtime = Runtime(tokenizer, new_folder() / "v.gguf")
    ours = encoders(Tokenizer.from_str(tokenizer.json.decode()))[False](STRINGS[::3])
    theirs = [runtime.encode(text, special=False) for text in STRINGS[::3]]
    found = [text for text, one, other in zip(STRINGS[::3], ours, theirs, strict=True) if one != other]
    found = [text for text in found if "<|endoftext|>" not in text]
    if name in KNOW_ONLY_ASCII_CASE:
        found = [text for text in found if not any(unicodedata.category(letter)[0] == "M" for letter in text)]
    assert found == []
    assert bool(tokenizer.split_differently) is (name in KNOW_ONLY_ASCII_CASE and bool(found))


def test_single_digits_before_gpt2s_words() -> None:
    content = json.loads(loaded("gpt2").json)
    content["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, content["pre_tokenizer"]],
    }
    assert identify(json.dumps(content).encode()) == "smollm"


def test_matches_kept_or_the_rest_removed() -> None:
    """Phi-4 says "remove what lies between the matches" of an expression that matches everything."""
    content = json.loads(loaded("small-qwen").json)
    content["pre_tokenizer"]["pretokenizers"][0] |= {"behavior": "Removed", "invert": True}
    assert identify(json.dumps(content).encode()) == "qwen2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pattern": {"Regex": r"\p{L}+|\s"}}, r'"\p{L}+|\s" (sha256 82c7ede05430)'),
        ({"behavior": "MergedWithNext"}, f'"{ONE_DIGIT[:60]}…" (sha256 '),
        ({"pattern": {"String": " "}}, '{"type": "Split", "pattern": {"String": " "}'),
    ],
)
def test_an_unknown_split_is_refused_by_name(change: dict[str, object], said: str) -> None:
    content = json.loads(loaded("small-qwen").json)
    content["pre_tokenizer"]["pretokenizers"][0] |= change
    with pytest.raises(Failure) as caught:
        identify(json.dumps(content).encode())
    assert "llama.cpp has no pre-tokenizer that splits text by" in caught.value.message
    assert said in caught.value.message


def test_a_space_before_the_text_is_not_gpt2s() -> None:
    content = json.loads(loaded("gpt2").json)
    content["pre_tokenizer"]["add_prefix_space"] = True
    with pytest.raises(Failure, match="then a space before the text"):
        identify(json.dumps(content).encode())


def test_a_normalizer_that_llama_cpp_lacks() -> None:
    content = json.loads(loaded("small-qwen").json)
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}
    with pytest.raises(Failure, match=r"llama\.cpp does not change text as .*Lowercase"):
        identify(json.dumps(content).encode())


def split_differently(name: str, strings: list[str]) -> list[str]:
    """List the strings that llama.cpp takes apart in other places than the steps do."""
    skips_merges = NAMES_OF_STEPS[KNOWN[name]][1] == name
    tokenizer = trained(KNOWN[name], skips_merges=skips_merges)
    assert tokenizer.pre == name
    runtime = Runtime(tokenizer, new_folder() / "v.gguf")
    ours = encoders(Tokenizer.from_str(tokenizer.json.decode()))[False](strings)
    theirs = [runtime.encode(text, special=False) for text in strings]
    pairs = zip(strings, ours, theirs, strict=True)
    return [text for text, one, other in pairs if one != other and "<|endoftext|>" not in text]


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_llama_cpp_splits_as_the_steps_do(name: str, every: int) -> None:
    found = split_differently(name, STRINGS[::every])
    if name in KNOW_ONLY_ASCII_CASE:
        assert found
        found = [text for text in found if not any(unicodedata.category(letter)[0] == "M" for letter in text)]
    assert found == []


def changed(name: str, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A trained tokenizer.json with something in it spelled otherwise."""
    skips_merges = NAMES_OF_STEPS[KNOWN[name]][1] == name
    content = json.loads(trained(KNOWN[name], skips_merges=skips_merges).json)
    change(content)
    return json.dumps(content).encode()


def test_steps_may_be_spelled_in_several_ways() -> None:
    def as_expressions(content: dict[str, Any]) -> None:
        words = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
        content["pre_tokenizer"] = spelled((r"\p{N}", words))

    def with_line_ends(content: dict[str, Any]) -> None:
        steps = content["pre_tokenizer"]["pretokenizers"]
        for step in steps[:-1]:
            step["pattern"]["Regex"] = step["pattern"]["Regex"].replace(r"\r\n", "\r\n")

    assert identify(changed("smollm", as_expressions)) == "smollm"
    assert identify(changed("deepseek-v3", with_line_ends)) == "deepseek-v3"


def test_whole_words_may_skip_merges_that_make_them_anyway() -> None:
    """Where merges make every token, it is the same; else llama.cpp would take a word apart."""

    def skip(content: dict[str, Any]) -> None:
        content["model"]["ignore_merges"] = not content["model"]["ignore_merges"]

    def skip_to_one_that_nothing_makes(content: dict[str, Any]) -> None:
        skip(content)
        content["model"]["merges"] = content["model"]["merges"][:-1]

    assert identify(changed("gpt-4o", skip)) == "gpt-4o"
    assert identify(changed("tekken", skip)) == "tekken"
    with pytest.raises(Failure, match="and skips the merges for whole words"):
        identify(changed("gpt-4o", skip_to_one_that_nothing_makes))


def test_case_beyond_ascii_is_not_seen() -> None:
    tokenizer = trained(KNOWN["gpt-4o"], skips_merges=False)
    splits = Tokenizer.from_str(tokenizer.json.decode()).pre_tokenizer.pre_tokenize_str
    assert len(splits("HelloWorld")) == len(splits("ПриветМир")) == 2
    assert any("changes case" in line for line in vocabulary_deviations(tokenizer))


def test_known_digests_are_of_names_that_llama_cpp_opens(tmp_path: Path) -> None:
    """It refuses a file with a name that it does not know."""
    tokenizer = trained(KNOWN["gpt-2"], skips_merges=False)
    for place, name in enumerate(sorted(set(NAME_OF_DIGEST.values()))):
        named = dataclasses.replace(tokenizer)
        named.__dict__["pre"] = name  # in place of what it would find
        Runtime(named, tmp_path / f"{place}.gguf")
