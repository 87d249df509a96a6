"""What a stranger may send in a template, a manifest, a folder or a recipe; each met once, and mended."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from convert.child.sandbox import render
from convert.cli.failure import report
from convert.errors import Failure, UsageFailure
from convert.formats import load_recipe
from convert.recipe.redact import redact
from convert.source import fetch
from convert.source.listing import MAX_LEGAL_BYTES, FileDigest, Listing, list_folder, small_files
from convert.store import MANIFEST_NAME, clean, list_artifacts, read_manifest
from convert.tokenizer import load
from convert.tokenizer.template import _check
from tests.publish.artifacts import TARGETS, stand
from verify.atomic import ABANDONED_S, replacing
from verify.files import VIEW, named_only
from verify.scenarios.loading import _SHIPPED, read

CHAT = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    "template",
    [
        "{% set x = 10**9999999 %}",
        "{% set x = 'a' * 10**9 %}",
        "{% set x = 10**9 * 'a' %}",
        "{% set x = [1] * 10**9 %}",
        "{{ '%999999999d' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{% set ns = namespace(x='aaaa') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=3) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
        "{% break %}",
        "{{ raise_exception('x' * 1000000) }}",
    ],
)
def test_no_operation_of_a_template_takes_minutes_or_gigabytes(template: str) -> None:
    began = time.process_time()
    with pytest.raises(Failure) as caught:
        render(template, CHAT, add_generation_prompt=True, markup={})
    assert len(caught.value.message) < 400
    assert time.process_time() - began < 2


def test_what_templates_do_is_still_done() -> None:
    template = "{{ '=' * 3 ~ 2 ** 5 ~ (1 + 2) ~ '%s!' % 'a' ~ ([1] + [2]) }}"
    assert render(template, CHAT, add_generation_prompt=True, markup={}) == "===323a![1, 2]".replace(
        "a!", "a!"
    )


def test_a_break_outside_of_every_loop_is_found_when_it_is_read() -> None:
    with pytest.raises(Failure, match="chat_template"):
        _check("{% break %}", "tokenizer_config.json")


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    _, root = stand(tmp_path)
    return root


def rewritten(root: Path, old: str, new: str) -> Path:
    folder = root / "small" / TARGETS[0]
    manifest = folder / MANIFEST_NAME
    manifest.write_text(manifest.read_text("utf-8").replace(old, new), "utf-8")
    return folder


def test_a_path_that_no_file_system_has_stops_no_other_artifact(artifacts: Path) -> None:
    rewritten(artifacts, '"LICENSE"', json.dumps("x" * 300))
    assert [str(each.state) for each in list_artifacts(artifacts)] == ["incomplete", "complete"]
    assert [Path(each.path).name for each in clean(artifacts)] == [TARGETS[0]]
    assert [each.target for each in list_artifacts(artifacts)] == [TARGETS[1]]


def test_only_the_files_that_a_manifest_names_are_opened(artifacts: Path) -> None:
    folder = artifacts / "small" / TARGETS[0]
    manifest = read_manifest(folder)
    with named_only(folder, manifest) as view:
        assert view == folder
    (folder / "modeling.py").write_text("raise SystemExit")
    left = folder.parent / f"{VIEW}999999999-x"
    left.mkdir()
    with named_only(folder, manifest) as view:
        assert sorted(each.name for each in view.iterdir()) == ["LICENSE", MANIFEST_NAME, "tiny-Q6_K.gguf"]
        assert (view / "tiny-Q6_K.gguf").samefile(folder / "tiny-Q6_K.gguf")
    assert not view.exists()
    assert not left.exists()
    assert [each.target for each in list_artifacts(artifacts)] == list(TARGETS)


def test_the_parts_that_a_kill_left_are_removed(tmp_path: Path) -> None:
    old, young = tmp_path / ".a.json.999999999.part", tmp_path / ".a.json.999999998.part"
    for part in (old, young):
        part.write_text("half")
    then = time.time() - ABANDONED_S - 1
    os.utime(old, (then, then))
    with replacing(tmp_path / "a.json") as file:
        file.write(b"whole")
    assert sorted(each.name for each in tmp_path.iterdir()) == [young.name, "a.json"]


@pytest.mark.parametrize("kind", ["pipe", "loop"])
def test_a_license_that_is_no_file_does_not_count_as_absent(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "LICENSE"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to(path)
    with pytest.raises(Failure, match="LICENSE: neither a file nor a folder"):
        list_folder("m", tmp_path)


def test_a_license_without_end_is_not_read(tmp_path: Path) -> None:
    files = {"config.json": FileDigest(2), "model.safetensors": FileDigest(2)}
    files["LICENSE"] = FileDigest(MAX_LEGAL_BYTES + 1)
    with pytest.raises(Failure, match="LICENSE has"):
        small_files(Listing("m", None, None, tmp_path, files))


def test_secrets_with_slashes_leave_no_trace_and_colons_cost_no_square() -> None:
    assert "cd" not in redact("to: s3://KEY:ab/cd@bucket/models")
    began = time.process_time()
    redact("# x://" + "a:" * 60_000)
    redact("# " + "x://a:" * 40_000)
    assert time.process_time() - began < 3


def test_a_message_is_as_long_as_a_person_reads(capsys: pytest.CaptureFixture[str]) -> None:
    report(Failure("x" * 200_000, "y" * 200_000))
    assert len(capsys.readouterr().err) < 10_000


def test_a_recipe_with_thousands_of_mistakes_is_told_of_the_first(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("model: a/b\ntargets: {hf: {}}\n" + "publish: 4\n" * 2000, "utf-8")
    with pytest.raises(UsageFailure) as caught:
        load_recipe(file)
    assert len(caught.value.message) < 15_000
    assert 10 < len(caught.value.problems) < 500
    assert caught.value.problems[-1].message.endswith(" more like these")


def test_too_little_address_space_is_no_bug(capsys: pytest.CaptureFixture[str]) -> None:
    report(RuntimeError("can't start new thread"))
    report(ImportError("libx.so: failed to map segment from shared object"))
    report(OSError("libx.so: cannot open shared object file: Input/output error"))
    said = capsys.readouterr().err
    assert said.count("error: not enough memory") == 2
    assert said.count("error: a library cannot be loaded: libx.so") == 1
    assert "bug" not in said


def test_a_check_of_a_turn_that_there_is_not_is_refused(tmp_path: Path) -> None:
    text = (_SHIPPED / "lessonpack-en.yaml").read_text("utf-8")
    assert "of: 1" in text
    file = tmp_path / "mine.yaml"
    file.write_text(text.replace("of: 1", "of: 9"), "utf-8")
    with pytest.raises(UsageFailure, match="there is no earlier turn 9"):
        read(file)


def test_a_model_with_a_name_that_no_file_system_has(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(f"model: {'x' * 300}\ntargets: {{hf: {{}}}}\nverify: {{text: {'y' * 300}}}\n", "utf-8")
    with pytest.raises(UsageFailure, match="is neither a Hub repo nor a folder"):
        load_recipe(file)
    with pytest.raises(UsageFailure, match="no recipe is called"):
        load_recipe("z" * 300)


def test_a_vocabulary_whose_ids_are_no_numbers(tmp_path: Path) -> None:
    content = {"model": {"type": "BPE", "vocab": {"a": 0, "b": "1"}, "merges": []}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "a", "bos_token": "b"}')
    with pytest.raises(Failure, match="'b' has the id '1'"):
        load(tmp_path, "llama", {}, 2)


def test_an_id_of_thousands_of_digits(tmp_path: Path) -> None:
    content = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    decoder = {"added_tokens_decoder": {"1" * 5000: {"content": "x"}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(decoder))
    with pytest.raises(Failure, match="is not an id"):
        load(tmp_path, "llama", {}, 2)


def test_infinity_in_a_manifest_is_damage(artifacts: Path) -> None:
    folder = rewritten(artifacts, '"options": {', '"options": {"x": Infinity, ')
    with pytest.raises(Failure, match="Infinity is no number"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_long_file_is_looked_at_before_it_is_hashed(name: str, tmp_path: Path) -> None:
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Failure, match=f"{name}: does not begin as a "):
        fetch(list_folder("m", tmp_path))
