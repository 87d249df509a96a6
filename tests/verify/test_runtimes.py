"""Three runtimes, one interface: what they say of the same tiny model agrees."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.child import ChildFailure, FaultKind
from convert.errors import Failure
from convert.model.feature import Feature
from tests import tiny
from tests.gguf import oracle
from tests.verify.opening import CHAT, LAID_OUT, TEXT, logits, opened
from verify.runtimes import Request, RuntimeSettings, transformers
from verify.runtimes.llama_cpp import find_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.verify.conftest import Made
    from verify.worker import Worker


@pytest.fixture(scope="module")
def source(chat: Made) -> Iterator[Worker]:
    with opened("transformers", chat.source) as worker:
        yield worker


def test_a_runtime_says_what_it_has_opened(gguf: Worker, source: Worker) -> None:
    for info in (gguf.info, source.info):
        assert (info.context, info.context_length, info.vocab_size) == (256, 256, tiny.VOCAB_SIZE)
        assert (info.eos_id, info.adds_bos) == (511, False)
        assert 511 in info.eog_ids
        assert info.chat_template is not None
        assert set(info.can) >= {"tokenize", "detokenize", "template", "logits", "generate", "cache"}
    assert gguf.info.chat_template == source.info.chat_template
    assert gguf.versions.keys() == {"llama-cpp-python"}
    assert source.versions.keys() == {"torch", "transformers"}
    # 4 layers x keys and values x 2 heads x 32 values, of 2 and of 4 bytes
    assert (gguf.info.kv_bytes_per_token, source.info.kv_bytes_per_token) == (1024, 2048)


@pytest.mark.parametrize("special", [True, False])
def test_tokenizers_agree(gguf: Worker, source: Worker, *, special: bool) -> None:
    for text in (TEXT, LAID_OUT, "", " a  b\n\n1234 it's", "e\u0301 🪐"):
        ids = gguf.tokenize(text, special=special)
        assert ids == source.tokenize(text, special=special)
        assert gguf.detokenize(ids) == source.detokenize(ids) == text
    assert (511 in gguf.tokenize(LAID_OUT, special=special)) is special


def test_templates_agree(gguf: Worker, source: Worker) -> None:
    assert gguf.apply_template(CHAT) == source.apply_template(CHAT) == LAID_OUT
    assert not gguf.apply_template(CHAT, add_generation_prompt=False).endswith("assistant\n")


def test_logits_agree_at_every_position(gguf: Worker, source: Worker) -> None:
    ids = gguf.tokenize(TEXT)
    ours, theirs = logits(gguf, ids), logits(source, ids)
    assert ours.shape == theirs.shape == (len(ids), tiny.VOCAB_SIZE)
    assert np.abs(ours - theirs).max() < 2e-3  # the cache of llama.cpp has 16 bits
    assert np.array_equal(ours, logits(gguf, ids))


def test_answers_agree(gguf: Worker, source: Worker) -> None:
    for request in (
        Request(text=TEXT, max_tokens=12),
        Request(messages=CHAT, max_tokens=12),
        Request(messages=CHAT, max_tokens=12, temperature=0.8, seed=7),
    ):
        ours, theirs = list(gguf.generate(request)), list(source.generate(request))
        assert [piece.token for piece in ours] == [piece.token for piece in theirs]
        assert [piece.t_s for piece in ours] == sorted(piece.t_s for piece in ours)
        assert ours[-1].end == theirs[-1].end == "length"
        assert all(piece.end is None for piece in ours[:-1])


def test_a_chat_is_read_with_its_markup(gguf: Worker) -> None:
    ids = tuple(gguf.tokenize(LAID_OUT, special=True))
    asked = [list(gguf.generate(Request(max_tokens=6, **way))) for way in ({"ids": ids}, {"messages": CHAT})]
    assert [piece.token for piece in asked[0]] == [piece.token for piece in asked[1]]


def test_an_answer_ends_at_the_model_s_own_end(gguf: Worker, source: Worker) -> None:
    free = [piece.token for piece in gguf.generate(Request(text=TEXT, max_tokens=6, ignores_end=True))]
    for worker in (gguf, source):
        pieces = list(worker.generate(Request(text=TEXT, max_tokens=6, stop_ids=(free[2] or 0,))))
        assert len(pieces) == free.index(free[2]) + 1
        assert pieces[-1].end == "end"


def test_an_answer_goes_no_further_than_the_context(gguf: Worker, source: Worker) -> None:
    for worker in (gguf, source):
        ids = tuple(range(200)) + tuple(range(50))
        pieces = list(worker.generate(Request(ids=ids, max_tokens=100, ignores_end=True)))
        assert len(pieces) == 6
        for refused in (Request(ids=ids + ids), Request(ids=()), Request(ids=(512,)), Request(ids=(-1,))):
            with pytest.raises(ChildFailure) as caught:
                list(worker.generate(refused))
            assert caught.value.fault.kind is FaultKind.REFUSED
        with pytest.raises(ChildFailure, match="do not fit the context of 256"):
            list(worker.logits([1] * 257))


def test_answers_made_together_are_as_long_as_alone(gguf: Worker, source: Worker) -> None:
    requests = [Request(ids=tuple(range(5 + 3 * n)), max_tokens=7 + n, ignores_end=True) for n in range(4)]
    ticks = list(gguf.together(requests))
    assert [sum(tick.index == n for tick in ticks) for n in range(4)] == [7, 8, 9, 10]
    with pytest.raises(ChildFailure, match="no call 'together'"):
        list(source.together(requests))


def test_the_cache_grows_by_what_is_computed(gguf: Worker, source: Worker) -> None:
    for worker in (gguf, source):
        sizes = []
        for count in (20, 60):
            list(worker.logits(list(range(count))))
            sizes.append(worker.cache_bytes())
        grown = (sizes[1] - sizes[0]) / 40
        assert worker.info.kv_bytes_per_token is not None
        # llama.cpp writes a cell's position and sequence with its keys and values.
        assert 0 <= grown - worker.info.kv_bytes_per_token <= 16


def test_a_quant_is_close_and_not_equal(chat: Made, gguf: Worker) -> None:
    ids = gguf.tokenize(TEXT)
    with opened("llama_cpp", chat.q8_0 / find_file(chat.q8_0).name) as worker:
        apart = np.abs(logits(worker, ids) - logits(gguf, ids)).max()
    assert 0 < apart < 0.1


@pytest.mark.slow
# The first has convolutions, whose mixers read their weights; the second asks for the type of its head.
@pytest.mark.parametrize(
    "model_type",
    ["lfm2", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("mamba2", "qwen2"))],
)
def test_what_does_not_fit_is_streamed_from_disk_in_float32(
    model_type: str, tmp_path: Path, chat: Made
) -> None:
    folder = tiny.make(tmp_path / "bf16", tiny.Recipe(model_type, spread=0.03))
    found = {}
    for dtype in ("float32", "streamed", "stored"):
        with opened("transformers", folder, dtype=dtype, tokenizer=str(chat.source)) as worker:
            found[dtype] = logits(worker, list(range(3, 60)))
            answer = list(worker.generate(Request(ids=(3, 4, 5), max_tokens=3)))
            assert len(answer) <= 3
            assert worker.info.notes["offload"] == ("mapped from disk" if dtype == "streamed" else "none")
    assert np.array_equal(found["float32"], found["streamed"])
    assert 0 < np.abs(found["float32"] - found["stored"]).max() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("model_type", tiny.cases(tiny.rendered("gguf"), by=tiny.roles, is_costly=True))
def test_every_architecture_answers_as_its_source(model_type: str, tmp_path: Path, chat: Made) -> None:
    folder = tiny.make(tmp_path / "model", tiny.Recipe(model_type, dtype="F32", spread=0.03))
    (path,) = oracle.convert_folder(folder, tmp_path / "out", ["F32"])["F32"]
    ids = list(range(3, 120))
    with opened("transformers", folder, tokenizer=str(chat.source)) as worker:
        theirs = logits(worker, ids)
    with opened("llama_cpp", path) as worker:
        differing = np.abs(logits(worker, ids) - theirs).max(axis=1) >= 3e-3
    # Where two experts score alike, the cache's 16 bits may turn a router's choice.
    assert differing.mean() <= (0.03 if Feature.EXPERTS in tiny.described(model_type).features else 0)


def test_the_first_of_several_shards_is_opened(tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "model", tiny.Recipe("llama"))
    shards = oracle.convert_folder(folder, tmp_path / "out", ["Q8_0"], split_max_size="1M")["Q8_0"]
    assert len(shards) > 1
    with opened("llama_cpp", tmp_path / "out") as worker:
        assert len(logits(worker, [3, 4, 5])) == 3
    (tmp_path / "out" / "other.gguf").touch()
    with pytest.raises(ChildFailure, match="one GGUF, or the first of its shards"):
        opened("llama_cpp", tmp_path / "out")


def test_a_damaged_file_is_refused_with_the_runtime_s_words(tmp_path: Path, chat: Made) -> None:
    whole = find_file(chat.f32).read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.gguf").write_bytes(b"GGUF" + bytes(100))
    for name in ("cut", "none"):
        with pytest.raises(ChildFailure, match="refuses this file") as caught:
            opened("llama_cpp", tmp_path / f"{name}.gguf")
        assert caught.value.fault.stderr_tail


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"model_type": "nonesuch", "auto_map": {"AutoConfig": "evil.Config"}},
            "code from a repo is never run",
        ),
        ({"num_hidden_layers": 5}, "weights are missing"),
    ],
)
def test_a_source_that_cannot_be_is_refused(
    change: dict[str, Any], said: str, tmp_path: Path, chat: Made
) -> None:
    for path in chat.source.iterdir():
        (tmp_path / path.name).symlink_to(path)
    config = json.loads((chat.source / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(config | change), "utf-8")
    with pytest.raises(Failure, match=said):
        transformers.open_runtime(str(tmp_path), RuntimeSettings())


def test_options_that_no_runtime_has_are_refused(chat: Made) -> None:
    for runtime, path in (("llama_cpp", chat.f32), ("openai_http", "http://127.0.0.1:1")):
        with pytest.raises(ChildFailure, match="no such option: speed"):
            opened(runtime, path, speed="high")
