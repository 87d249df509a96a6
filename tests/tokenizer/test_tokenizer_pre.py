"""Which of llama.cpp's pre-tokenizers: by the ids of a check text, or by the steps themselves."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer

from convert.errors import Failure
from convert.model.splitting import ONE_DIGIT
from convert.tokenizer import load
from convert.tokenizer.pretokenizer import identify
from tests.tokenizer.test_tokenizer_agreement import STRINGS, differences, encoders, loaded
from tests.tokenizer.vocabularies import LLAMA3_REGEX, new_folder, train_byte_level
from tests.tokenizer.vocabulary_runtime import Runtime


@pytest.mark.parametrize(
    ("name", "pre"),
    [
        ("gpt2", "gpt-2"),
        ("qwen", "qwen2"),
        ("small-qwen", "qwen2"),
        ("llama", "llama-bpe"),
        ("mistral", "default"),
        ("gemma", "default"),
    ],
)
def test_families(name: str, pre: str) -> None:
    assert loaded(name).pre == pre


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("gpt2", "3ce83efda5659b07b1ad37ca97ca5797ea4285d9b9ab0dc679e4a720c9da7454"),
        ("qwen", "e636dc30a262dcc0d8c323492e32ae2b70728f4df7dfe9737d9f920a282b8aea"),
    ],
)
def test_check_text_gives_llama_cpps_own_digests(
    name: str, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """conversion/base.py has these two for openai-community/gpt2 and Qwen/Qwen1.5-7B."""
    monkeypatch.setattr("convert.tokenizer.pretokenizer._NAME_OF_DIGEST", {digest: "by its digest"})
    assert identify(loaded(name).json) == "by its digest"


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
        ({"pattern": {"Regex": r"\p{L}+|\s"}}, r"\p{L}+|\s"),
        ({"behavior": "MergedWithNext"}, ONE_DIGIT + " (MergedWithNext)"),
        ({"pattern": {"String": " "}}, '"String": " "'),
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
