"""Which tokens begin, end and stop: in the canonical form, and in llama.cpp, where generation really ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer as Encoder

from convert.errors import Failure
from convert.formats.gguf.vocabulary import vocabulary_deviations, vocabulary_fields
from convert.tokenizer import Tokenizer, TokenType, load
from tests.tokenizer.test_tokenizer_agreement import loaded, runtime
from tests.tokenizer.trained import trained_folder
from tests.tokenizer.vocabularies import (
    added,
    copy_of,
    gpt2_folder,
    llama3_folder,
    small_qwen_folder,
    spm_folder,
    write_json,
)
from tests.tokenizer.vocabulary_runtime import Runtime

if TYPE_CHECKING:
    from pathlib import Path


def llama3(**settings: Any) -> Path:
    """The Llama 3 form with other words in tokenizer_config.json."""
    folder = copy_of(llama3_folder())
    content = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", {**content, **settings})
    return folder


def names(tokenizer: Tokenizer, *ids: int | None) -> list[str | None]:
    """Tokens for ids."""
    return [None if identity is None else tokenizer.tokens[identity] for identity in ids]


def test_qwen_stops_at_the_end_of_a_turn() -> None:
    qwen = loaded("qwen")
    assert (qwen.bos_id, qwen.eos_id, qwen.eot_id, qwen.pad_id) == (151643, 151645, 151645, 151643)
    assert qwen.eog_ids == (151643, 151645)
    assert (qwen.add_bos, qwen.add_eos) == (False, False)
    assert qwen.tokens[151646] == "<|extra_0|>"
    assert qwen.tokens[151850:151852] == ("<|extra_204|>", "[PAD151851]")
    assert qwen.types[151850:151852] == (TokenType.CONTROL, TokenType.UNUSED)
    assert qwen.config["model_max_length"] == 8192
    # 128247 reads "</s>", which llama.cpp takes for an end whoever's vocabulary it is in.
    assert runtime("qwen").stops() == [128247, 151643, 151645]


def test_a_qwen_that_does_not_chat_stops_at_the_end_of_text() -> None:
    folder = copy_of(small_qwen_folder())
    write_json(folder / "generation_config.json", {"chat_format": "raw", "eos_token_id": 1000})
    qwen = load(folder, "qwen", {}, 1300)
    assert (qwen.eos_id, qwen.eot_id, qwen.eog_ids, qwen.chat_template) == (1000, None, (1000,), None)


@pytest.mark.parametrize(
    ("vocab_size", "last"), [(1003, "<|im_end|>"), (1100, "<|extra_96|>"), (1300, "[PAD1299]")]
)
def test_qwen_extras_take_the_room_there_is(vocab_size: int, last: str) -> None:
    assert load(small_qwen_folder(), "qwen", {}, vocab_size).tokens[-1] == last


def test_gpt2_has_one_special_token() -> None:
    gpt2 = loaded("gpt2")
    assert (gpt2.bos_id, gpt2.eos_id, gpt2.eot_id, gpt2.eog_ids) == (50256, 50256, None, (50256,))
    assert gpt2.types[50256] is TokenType.CONTROL
    assert gpt2.chat_template is None
    assert runtime("gpt2").stops() == [50256]


def test_llama3_instruct_stops_at_each_end_that_it_names() -> None:
    folder = llama3()
    ids = {token: identity for identity, token in enumerate(loaded("llama").tokens)}
    ends = [ids["<|end_of_text|>"], ids["<|eot_id|>"], ids["<|start_header_id|>"]]
    write_json(folder / "generation_config.json", {"eos_token_id": ends})
    tokenizer = load(folder, "llama", {}, 1600)
    assert tokenizer.eog_ids == tuple(sorted(ends))
    assert names(tokenizer, tokenizer.eos_id, tokenizer.eot_id) == ["<|end_of_text|>", "<|eot_id|>"]
    # The third is neither end of text nor of turn: GGUF's end of message carries it.
    assert Runtime(tokenizer, folder / "v.gguf").stops() == sorted(ends)


def test_gemma_stops_at_the_end_of_a_turn() -> None:
    gemma = loaded("gemma")
    assert names(gemma, gemma.bos_id, gemma.eos_id, gemma.eot_id, gemma.pad_id, gemma.unk_id) == [
        "<bos>", "<eos>", "<end_of_turn>", "<pad>", "<unk>",
    ]  # fmt: skip
    assert gemma.types[gemma.tokens.index("<b>")] is TokenType.USER_DEFINED
    assert gemma.types[3] is TokenType.UNKNOWN
    assert names(gemma, *runtime("gemma").stops()) == ["<eos>", "<end_of_turn>"]
    assert gemma.add_bos


def test_release_5_of_transformers_lists_tokens_in_one_file() -> None:
    folder = llama3(
        extra_special_tokens=["<|start_header_id|>", "system"], backend="tokenizers", is_local=True
    )
    tokenizer = load(folder, "llama", {}, 1600)
    assert tokenizer.types[tokenizer.tokens.index("system")] is TokenType.CONTROL
    assert tokenizer.config["additional_special_tokens"] == ["<|start_header_id|>", "system"]


def test_release_4_of_transformers_could_give_them_names() -> None:
    folder = llama3(extra_special_tokens={"header_token": "<|start_header_id|>"})
    assert load(folder, "llama", {}, 1600).config["additional_special_tokens"] == ["<|start_header_id|>"]


def test_an_end_that_only_config_json_gives() -> None:
    folder = llama3(eos_token=None)
    tokenizer = load(folder, "llama", {"eos_token_id": [1501, 1502]}, 1600)
    assert (tokenizer.eos_id, tokenizer.eog_ids) == (1501, (1501, 1502))
    assert tokenizer.config["eos_token"] is None


def test_config_json_is_not_believed_against_the_tokenizer() -> None:
    """It often keeps the default of the model's class, 50256, whatever the vocabulary."""
    assert load(llama3_folder(), "llama", {"eos_token_id": 50256, "bos_token_id": 50256}, 1600).eog_ids == (
        1501,
        1502,
    )


def test_minus_one_is_no_token() -> None:
    assert load(llama3_folder(), "llama", {"pad_token_id": -1}, 1600).pad_id is None


@pytest.mark.parametrize("role", ["bos", "eos", "unk", "pad"])
def test_a_named_token_that_is_not_there(role: str) -> None:
    folder = llama3(**{f"{role}_token": {"content": "<|nowhere|>", "__type": "AddedToken"}})
    with pytest.raises(Failure, match=rf"the {role}_token '<\|nowhere\|>'"):
        load(folder, "llama", {}, 1600)


def test_an_id_beyond_the_vocabulary() -> None:
    folder = llama3()
    write_json(folder / "generation_config.json", {"eos_token_id": [1501, 128009]})
    with pytest.raises(
        Failure, match=r"generation_config\.json: eos_token_id 128009 is beyond the vocabulary of 1504"
    ):
        load(folder, "llama", {}, 1600)


@pytest.mark.parametrize("flag", [True, False])
def test_add_bos_token_is_obeyed_everywhere(flag: bool) -> None:  # noqa: FBT001
    """Some files say it in tokenizer_config.json only; ours say it in tokenizer.json too."""
    for folder, model_type, size in (
        (llama3(add_bos_token=flag), "llama", 1600),
        (_spm(add_bos_token=flag), "llama", 1900),
    ):
        tokenizer = load(folder, model_type, {}, size)
        assert tokenizer.add_bos is flag

        ids = Encoder.from_str(tokenizer.json.decode()).encode("Hello").ids
        assert (ids[0] == tokenizer.bos_id) is flag
        assert Runtime(tokenizer, folder / "v.gguf").encode("Hello", special=True, wrapped=True) == ids


def test_add_bos_token_without_a_bos_token() -> None:
    folder = copy_of(gpt2_folder())
    write_json(folder / "tokenizer_config.json", {"add_bos_token": True, "bos_token": None})
    with pytest.raises(Failure, match="add_bos_token is true, but there is no bos_token"):
        load(folder, "gpt2", {}, 50257)


def around(*names: str, last: tuple[str, ...] = ()) -> Path:
    """The Llama 3 form with other tokens around a text."""
    folder = llama3(bos_token=None)
    content = json.loads((folder / "tokenizer.json").read_text())
    template = content["post_processor"]["processors"][1]
    before, after = (
        [{"SpecialToken": {"id": name, "type_id": 0}} for name in part] for part in (names, last)
    )
    template["single"] = [*before, {"Sequence": {"id": "A", "type_id": 0}}, *after]
    template["special_tokens"] = {
        name: {"id": name, "ids": [loaded("llama").tokens.index(name)], "tokens": [name]}
        for name in (*names, *last)
    }
    write_json(folder / "tokenizer.json", content)
    return folder


def test_more_before_a_text_than_one_token() -> None:
    """GLM-4 begins with "[gMASK]<sop>"."""
    folder = around("<|begin_of_text|>", "<|start_header_id|>")
    tokenizer = load(folder, "llama", {}, 1600)
    assert (tokenizer.bos_id, tokenizer.add_bos, tokenizer.opening) == (1500, True, (1503,))
    assert Encoder.from_str(tokenizer.json.decode()).encode("a").ids[:2] == [1500, 1503]
    assert "add_bos_token" not in tokenizer.config
    assert not {key: value for key, _, value, _ in vocabulary_fields(tokenizer)}[
        "tokenizer.ggml.add_bos_token"
    ]
    assert vocabulary_deviations(tokenizer) == [
        "tokenizer: llama.cpp puts nothing before a text, and the source <|begin_of_text|><|start_header_id|>"
    ]
    (folder / "tokenizer.json").write_bytes(tokenizer.json)
    write_json(folder / "tokenizer_config.json", tokenizer.config)
    assert load(folder, "llama", {}, 1600) == tokenizer
    off = json.loads((folder / "tokenizer_config.json").read_text()) | {"add_bos_token": False}
    write_json(folder / "tokenizer_config.json", off)
    assert load(folder, "llama", {}, 1600).opening == ()


def test_a_token_after_a_text_that_is_not_eos() -> None:
    with pytest.raises(Failure, match="neither bos before nor eos after"):
        load(around("<|begin_of_text|>", last=("<|start_header_id|>",)), "llama", {}, 1600)


def test_three_ends_without_an_end_of_turn_all_stop() -> None:
    """GLM-4 ends an answer where the user or a tool speaks; GGUF has a key for each of two."""
    folder = llama3(eos_token="<|start_header_id|>", chat_template=None)  # noqa: S106
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] += [
        added(1504, "<|user|>", special=True),
        added(1505, "<|observation|>", special=True),
    ]
    write_json(folder / "tokenizer.json", content)
    write_json(folder / "generation_config.json", {"eos_token_id": [1503, 1504, 1505]})
    tokenizer = load(folder, "llama", {}, 1600)
    fields = {key: value for key, _, value, _ in vocabulary_fields(tokenizer)}
    assert fields["tokenizer.ggml.eot_token_id"] == 1504
    assert fields["tokenizer.ggml.eom_token_id"] == 1505
    assert {1503, 1504, 1505} <= set(Runtime(tokenizer, folder / "v.gguf").stops())
    assert not [line for line in vocabulary_deviations(tokenizer) if "no key left" in line]


def test_a_message_of_several_does_not_end_the_answer() -> None:
    """gpt-oss ends each message with <|end|>, and an answer with <|return|> or <|call|>."""
    folder = llama3(eos_token="<|return|>", chat_template="<|start|>assistant<|message|>{{ m }}<|end|>")  # noqa: S106
    content = json.loads((folder / "tokenizer.json").read_text())
    names = ("<|return|>", "<|call|>", "<|end|>", "<|start|>", "<|message|>", "<|channel|>")
    content["added_tokens"] += [added(1504 + place, name, special=True) for place, name in enumerate(names)]
    write_json(folder / "tokenizer.json", content)
    write_json(folder / "generation_config.json", {"eos_token_id": [1504, 1501, 1505]})
    tokenizer = load(folder, "llama", {}, 1600)
    assert (tokenizer.eot_id, tokenizer.eog_ids) == (None, (1501, 1504, 1505))
    stops = Runtime(tokenizer, folder / "v.gguf").stops()
    assert {1501, 1504, 1505} <= set(stops)
    assert 1506 not in stops


def test_tokens_that_look_special_are() -> None:
    """Qwen2.5 leaves <|fim_prefix|> unmarked; llama.cpp acts on it by its text, so the file says so."""
    folder = llama3()
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] += [
        added(1504, "<|fim_prefix|>", special=False),
        added(1505, "<tool>", special=False),
    ]
    write_json(folder / "tokenizer.json", content)
    assert load(folder, "llama", {}, 1506).types[1504:] == (TokenType.CONTROL, TokenType.USER_DEFINED)


def _spm(**settings: Any) -> Path:
    folder = copy_of(spm_folder())
    content = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", {**content, **settings})
    return folder


def test_added_tokens_keep_ids_that_do_not_follow() -> None:
    """The library counts on from the vocabulary, whatever id the file gives."""
    folder = llama3(added_tokens_decoder={"1550": {"content": "<|later|>", "special": True}})
    tokenizer = load(folder, "llama", {}, 1600)
    assert tokenizer.tokens[1550] == "<|later|>"
    ids = Encoder.from_str(tokenizer.json.decode()).encode("a<|later|>", add_special_tokens=False).ids
    assert ids[-1] == 1550
    assert Runtime(tokenizer, folder / "v.gguf").encode("a<|later|>", special=True) == ids
    unigram = trained_folder("unigram", added_tokens_decoder={"1400": {"content": "<later>"}})
    with pytest.raises(Failure, match="the id 1400 of '<later>' does not follow the others"):
        load(unigram, "llama", {}, 1500)
