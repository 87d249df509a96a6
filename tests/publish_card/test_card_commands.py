"""Each command is right for this repo and this format: it can be parsed, and names what is there."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from convert import formats
from convert.errors import Failure
from convert.publish.card.facts import gather
from convert.publish.card.xinference import _billions
from convert.store import FileEntry
from tests.publish_card.cards import BASE, of_hub

if TYPE_CHECKING:
    from pathlib import Path

    from tests.publish_card.cards import Artifacts, Card

GGUF = ["Download", "llama.cpp", "llama-cpp-python", "Ollama", "llamafile", "LM Studio", "Transformers"]
SERVERS = ["vLLM", "SGLang", "Text Generation Inference", "LMDeploy"]
CHAT_ONLY = ("chat/completions", "create_chat_completion", "apply_chat_template", "llama-cli", "--chat")
MARKS = {"--hf-repo", "-hf", "--model-path", "--model-id"}


def quantised(artifacts: Artifacts, name: str, model: str = "qwen", **manifest: Any) -> Card:
    """The plain weights by another name: what a card says follows from the format, not from the bytes."""
    options = {"bits": 4, "group_size": 128, "desc_act": False}
    changes = {"format": name, "target": f"{name}-int4", "options": options, **manifest}
    return artifacts.card(artifacts.candidate("hf", model, manifest=changes, target=f"{name}-int4"))


@pytest.fixture(scope="module")
def every(built: Artifacts) -> dict[str, Card]:
    """A card of each format and of both kinds of model."""
    artifacts = built
    hub = of_hub(artifacts.candidate().manifest, "tokenizer.json")
    return {
        "gguf": artifacts.card(),
        "gguf of the Hub": artifacts.card(artifacts.candidate(manifest=hub)),
        "gguf, completion": artifacts.card(artifacts.candidate("gguf-Q8_0", "gpt2")),
        "onnx": artifacts.card(artifacts.candidate("onnx-int4-cpu"), artifacts.candidate("onnx-fp32-cpu")),
        "onnx, completion": artifacts.card(artifacts.candidate("onnx-int4-cpu", "gpt2")),
        "hf": artifacts.card(artifacts.candidate("hf")),
        "hf, completion": artifacts.card(artifacts.candidate("hf", "gpt2")),
        "gptq": quantised(artifacts, "gptq"),
        "gptq, completion": quantised(artifacts, "gptq", "gpt2"),
        "awq": quantised(artifacts, "awq"),
    }


def test_who_is_told_of(every: dict[str, Card]) -> None:
    found = {name: card.titles for name, card in every.items()}
    assert found == {
        "gguf": [*GGUF, "Xinference"],
        "gguf of the Hub": [*GGUF, "vLLM", "SGLang", "Xinference"],
        "gguf, completion": [*GGUF, "Xinference"],
        "onnx": ["onnxruntime-genai"],
        "onnx, completion": ["onnxruntime-genai"],
        "hf": ["Transformers", *SERVERS, "FastChat", "Xinference"],
        "hf, completion": ["Transformers", "vLLM", "SGLang", "Text Generation Inference", "Xinference"],
        "gptq": ["Transformers", *SERVERS, "FastChat", "Xinference"],
        "gptq, completion": ["GPTQModel"],
        "awq": ["Transformers", *SERVERS, "FastChat", "Xinference"],
    }


def test_packed_weights_are_counted_as_the_sources(artifacts: Artifacts) -> None:
    wanted = gather(artifacts.candidate("hf")).parameters
    assert wanted
    (packed,) = quantised(artifacts, "gptq").bundle.candidates
    assert gather(packed).parameters == wanted


def test_an_artifact_of_an_older_version_is_refused(artifacts: Artifacts) -> None:
    with pytest.raises(Failure, match="gguf-Q8_0: built by an older version") as caught:
        artifacts.card(artifacts.candidate(manifest={"model": None}))
    assert caught.value.hint == "run `modelwright convert` again"


def test_an_unknown_family_is_refused_by_name(artifacts: Artifacts) -> None:
    model = artifacts.candidate().manifest.model
    assert model is not None
    changed = model.model_copy(update={"family": "unheard_of"})
    with pytest.raises(Failure, match="this version knows no 'unheard_of' models"):
        artifacts.card(artifacts.candidate(manifest={"model": changed}))


def test_a_template_that_is_not_the_one_that_was_built_is_refused(artifacts: Artifacts) -> None:
    for target in ("gguf-Q8_0", "onnx-int4-cpu", "hf"):
        with pytest.raises(Failure, match=f"{target}: its chat template is not the one that was built"):
            gather(artifacts.candidate(target, manifest={"chat_template_sha256": "0" * 64}))


def test_an_unknown_format_is_refused_by_name(artifacts: Artifacts) -> None:
    with pytest.raises(Failure, match="there is no format 'exl3'") as caught:
        artifacts.card(artifacts.candidate("hf", manifest={"format": "exl3"}))
    assert (
        caught.value.hint == "the formats are awq, compressed-tensors, ctranslate2, gguf, gptq, hf, mlx, onnx"
    )


SHIPPING = """
from convert.formats.shipping import Guide, Shipping

SHIPPING = Shipping(
    label="EXL3",
    suffix="EXL3-{bits}bit",
    weights=r".*\\.safetensors",
    library="exl3",
    tags=("exl3",),
    guides=(Guide("exl3/exl3-run"), Guide("exl3/unknown", needs=("exl3",))),
)
"""
TEMPLATE = """### exl3-run

{% filter fence("sh") %}
exl3_run --model {{ repo | sh }} --prompt {{ prompt | sh }}
{% endfilter %}
"""


def test_a_format_is_one_folder(
    artifacts: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guides = tmp_path / "exl3" / "guides"
    guides.mkdir(parents=True)
    (tmp_path / "exl3" / "__init__.py").write_text("")
    (tmp_path / "exl3" / "shipping.py").write_text(SHIPPING)
    for name in ("exl3-run", "unknown"):
        (guides / f"{name}.md.j2").write_text(TEMPLATE)
    monkeypatch.setattr(formats, "__path__", [*formats.__path__, str(tmp_path)])
    options = {"bits": 4}
    card = artifacts.card(
        artifacts.candidate("hf", target="exl3", manifest={"format": "exl3", "options": options})
    )
    assert card.bundle.repo == "someone/tiny-EXL3-4bit"
    assert card.titles == ["exl3-run"]
    asked = "exl3_run --model someone/tiny-EXL3-4bit --prompt '什么是行星？'"
    assert card.blocks("sh")[0].strip() == asked
    assert "library_name: exl3\n" in card.readme
    assert "as EXL3, made by" in card.body
    for name in [name for name in sys.modules if name.startswith("convert.formats.exl3")]:
        monkeypatch.delitem(sys.modules, name)


def test_every_program_compiles_and_every_command_parses(every: dict[str, Card]) -> None:
    for name, card in every.items():
        programs, commands = card.blocks("python"), card.blocks("sh")
        assert programs, name
        assert commands, name
        for program in programs:
            compile(program, name, "exec")
        for block in commands:
            checked = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
            assert not checked.stderr, block
            for line in block.splitlines():
                assert len(shlex.split(line)) > 1, line
        assert sum("```" in line for line in card.readme.splitlines()) % 2 == 0


def test_every_file_that_a_command_names_is_there(every: dict[str, Card]) -> None:
    for name, card in every.items():
        there = {file.path for file in card.bundle.files} | set(card.made)
        folder = card.bundle.repo.partition("/")[2]
        for arguments in card.commands:
            if arguments[:2] == ["hf", "download"]:
                assert arguments[2] == card.bundle.repo
                assert set(arguments[3:-2]) <= there, name
            for argument in arguments:
                if argument.startswith(f"{folder}/") and "." in argument.rpartition("/")[2]:
                    assert argument.removeprefix(f"{folder}/") in there, arguments


def test_every_repo_that_a_command_names_is_this_one(every: dict[str, Card]) -> None:
    for card in every.values():
        for arguments in card.commands:
            for flag, value in pairwise(arguments):
                if flag in MARKS and "/" in value and not value.endswith(".gguf"):
                    assert value.partition(":")[0] == card.bundle.repo, arguments


def test_a_completion_model_gets_no_chat(every: dict[str, Card]) -> None:
    for name, card in every.items():
        run = card.section("Run")
        found = [word for word in CHAT_ONLY if word in run]
        assert bool(found) == ("completion" not in name), (name, found)
        assert ("takes no turns" in card.section("Prompt")) == ("completion" in name)
        assert ("conversational" in card.readme) == ("completion" not in name)


def test_calls_of_servers_carry_json(every: dict[str, Card]) -> None:
    seen = 0
    for card in every.values():
        for arguments in card.commands:
            if arguments[0] == "curl":
                seen += 1
                body = json.loads(arguments[-1])
                assert ("messages" in body) == arguments[1].endswith("/chat/completions")
                assert ("prompt" in body) == arguments[1].endswith("/v1/completions")
    assert seen > 10


def test_quants_are_told_to_servers(artifacts: Artifacts) -> None:
    for method in ("gptq", "awq"):
        commands = "\n".join(quantised(artifacts, method).blocks("sh"))
        assert f"--quantize {method}" in commands
        assert f"--model-format {method}" in commands
        assert f"--quantization {method} " in f"{commands} ".replace("\n", " ")
    plain = "\n".join(artifacts.card(artifacts.candidate("hf")).blocks("sh"))
    assert "--quantize" not in plain
    assert "--model-format pytorch" in plain


@pytest.mark.parametrize(
    "options", [{"bits": 8, "group_size": 128}, {"bits": 4, "group_size": 32}, {"bits": 4, "desc_act": True}]
)
def test_turbomind_is_named_only_for_what_its_kernels_know(
    artifacts: Artifacts, options: dict[str, Any]
) -> None:
    given = {"group_size": 128, "desc_act": False, **options}
    titles = quantised(artifacts, "gptq", options=given).titles
    assert "LMDeploy" not in titles
    assert "vLLM" in titles


def test_vllm_reads_gguf_only_with_a_tokenizer_that_is_no_code(artifacts: Artifacts) -> None:
    with_code = of_hub(artifacts.candidate().manifest)  # Qwen-1's vocabulary is read by code of its repo
    assert "vLLM" not in artifacts.card(artifacts.candidate(manifest=with_code)).titles
    plain = of_hub(artifacts.candidate().manifest, "tokenizer.json")
    commands = "\n".join(artifacts.card(artifacts.candidate(manifest=plain)).blocks("sh"))
    assert f"vllm serve someone/Base-0.5B-Chat-GGUF:Q8_0 --tokenizer {BASE}" in commands


def test_a_model_in_pieces_is_joined_first(artifacts: Artifacts) -> None:
    first = artifacts.candidate().manifest.files[0]
    names = [f"tiny-qwen-Q8_0-0000{n}-of-00002.gguf" for n in (1, 2)]
    entries = tuple(FileEntry(path=name, size_bytes=1, sha256=first.sha256) for name in names)
    folder = artifacts.candidate().folder
    for name in names:
        if not (folder / name).exists():
            (folder / name).write_bytes((folder / first.path).read_bytes())
    try:
        card = artifacts.card(artifacts.candidate(manifest={"files": entries}))
    finally:
        for name in names:
            (folder / name).unlink(missing_ok=True)
    commands = "\n".join(card.blocks("sh"))
    assert f"llama-gguf-split --merge tiny-GGUF/{names[0]} tiny-GGUF/tiny-Q8_0.gguf" in commands
    assert "ollama" not in commands
    assert "Modelfile" not in card.made
    assert f'additional_files=["{names[1]}"]' in "\n".join(card.blocks("python"))
    assert "Transformers" not in card.titles
    assert card.table("Files")[1][0] == "Q8_0 (2 files)"


def test_a_branch_is_named_wherever_it_can_be(artifacts: Artifacts) -> None:
    for target in ("gguf-Q8_0", "onnx-int4-cpu", "hf"):
        card = artifacts.card(artifacts.candidate(target), revision="v2 beta")
        for program in card.blocks("python"):
            compile(program, target, "exec")
            assert 'revision="v2 beta"' in program
        for arguments in card.commands:
            # These take the main branch alone, so they get the downloaded file.
            assert "-hf" not in arguments
            assert not any(argument.startswith("hf.co/") for argument in arguments)
            if card.bundle.repo in arguments and arguments[0] != "curl":
                assert arguments[arguments.index("--revision") + 1] == "v2 beta", arguments


def test_a_folder_of_a_repo_is_opened_as_such(artifacts: Artifacts) -> None:
    card = artifacts.card(artifacts.candidate("onnx-int4-cpu"), artifacts.candidate("onnx-fp32-cpu"))
    (program,) = card.blocks("python")
    assert 'allow_patterns=["cpu-int4/*"]' in program
    assert 'og.Model(f"{folder}/cpu-int4")' in program
    assert "pip install onnxruntime-genai huggingface_hub" in card.blocks("sh")[0]
    names = [row[0] for row in card.table("Files")[1:-1]]
    assert names == ["cpu-int4 (2 files)", "cpu-fp32 (2 files)"]


def test_cuda_graphs_want_cudas_package(artifacts: Artifacts) -> None:
    candidate = artifacts.candidate(
        "onnx-int4-cpu",
        target="onnx-int4-cuda",
        manifest={"options": {"provider": "cuda", "precision": "int4"}},
    )
    assert "onnxruntime-genai-cuda" in artifacts.card(candidate).blocks("sh")[0]


def test_formats_that_share_a_repo_are_told_apart(artifacts: Artifacts) -> None:
    members = [artifacts.candidate(target) for target in ("gguf-Q8_0", "onnx-int4-cpu", "hf")]
    card = artifacts.card(*members, repo="someone/all")
    assert "as GGUF, safetensors, ONNX, in 3 sizes" in card.body
    run = card.section("Run")
    places = [run.index(f"**{name}**") for name in ("GGUF", "safetensors", "ONNX")]
    assert places == sorted(places)
    assert "xinference.json" not in card.readme
    assert "xinference.json" not in card.made
    there = {file.path for file in card.bundle.files} | set(card.made)
    for arguments in card.commands:
        if arguments[:2] == ["hf", "download"]:
            assert set(arguments[3:-2]) <= there
    assert 'subfolder="hf"' in "\n".join(card.blocks("python"))


def test_a_private_repo_asks_for_a_login(artifacts: Artifacts) -> None:
    assert "hf auth login" in artifacts.card(is_private=True).section("Run")
    assert "hf auth login" not in artifacts.card(is_private=False).section("Run")


def test_names_that_a_shell_would_read_are_quoted(artifacts: Artifacts) -> None:
    bundle = replace(artifacts.bundle(), revision="$(touch x); `id` 'y' \"z\"")
    from convert.publish.card import render  # noqa: PLC0415

    readme = render(bundle)["README.md"].decode()
    for line in readme.splitlines():
        if line.startswith("hf download"):
            assert shlex.split(line)[-3] == bundle.revision


def test_xinference_is_told_what_the_model_is(artifacts: Artifacts) -> None:
    told = json.loads(artifacts.card().made["xinference.json"])
    assert told["model_ability"] == ["chat"]
    assert told["context_length"] == gather(artifacts.candidate()).context
    assert told["stop"] == ["<|im_end|>", "<|endoftext|>"]
    assert told["chat_template"].startswith("{% for message in messages %}")
    assert [spec["quantization"] for spec in told["model_specs"]] == ["Q6_K", "Q8_0", "F16"]
    spec = told["model_specs"][1]
    name = spec["model_file_name_template"].format(quantization=spec["quantization"])
    assert name == "tiny-qwen-Q8_0.gguf"
    plain = json.loads(artifacts.card(artifacts.candidate("gguf-Q8_0", "gpt2")).made["xinference.json"])
    assert plain["model_ability"] == ["generate"]
    assert "chat_template" not in plain


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        (7_721_324_544, "7_7"),
        (494_032_768, "0_5"),
        (13e9, 13),
        (1_100_048_384, "1_1"),
        (4_789_504, "0_005"),
        (7e9, 7),
    ],
)
def test_sizes_as_xinference_writes_them(parameters: float, said: str | int) -> None:
    assert _billions(int(parameters)) == said
