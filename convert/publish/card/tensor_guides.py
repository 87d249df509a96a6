"""Who reads safetensors in Transformers' layout: GPTQ, AWQ, and weights that are not quantised."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.publish.card.gguf_guides import generation
from convert.publish.card.guide import Guide, python, quoted, shell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.publish.card.guide import Block, Setting

# Architectures whose packed weights each takes; unquantised, Transformers takes all.
IN_SERVERS = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma")
IN_TURBOMIND = ("llama", "mistral", "qwen2", "qwen3")
VLLM_PORT, SGLANG_PORT, TGI_PORT, LMDEPLOY_PORT, FASTCHAT_PORT = 8000, 30000, 8080, 23333, 8001
TGI_IMAGE = "ghcr.io/huggingface/text-generation-inference:latest"
QUANTISED = ("gptq", "awq")


def guides(setting: Setting) -> list[Guide]:
    """In the order in which people ask for them."""
    if setting.candidate.prefix:
        # Servers take a whole repo: what lies in a folder of it is downloaded first.
        return [*_transformers(setting)]
    return [*_transformers(setting), *_servers(setting), *_fastchat(setting)]


def _method(setting: Setting) -> str | None:
    name = setting.candidate.manifest.format
    return name if name in QUANTISED else None


def _given(setting: Setting) -> str:
    given = [quoted(setting.repo)]
    given += [f"revision={quoted(setting.revision)}"] if setting.revision else []
    given += [f"subfolder={quoted(setting.candidate.prefix.rstrip('/'))}"] if setting.candidate.prefix else []
    return ", ".join(given)


def _transformers(setting: Setting) -> Iterator[Guide]:
    method, is_gpt2 = _method(setting), setting.facts.architecture == "gpt2"
    if method and is_gpt2:
        # Transformers looks for the plain weights of GPT-2's transposed layers, and packed ones have none.
        if not setting.candidate.prefix:
            yield Guide("GPTQModel", (shell(["pip", "install", "gptqmodel"]), _gptqmodel(setting)))
        return
    packages = ["transformers", "accelerate", *(["gptqmodel", "optimum"] if method else [])]
    where = _given(setting)
    program = python(
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({where})",
        f'model = AutoModelForCausalLM.from_pretrained({where}, device_map="auto")',
        *generation(setting),
    )
    yield Guide("Transformers", (shell(["pip", "install", *packages]), program))


def _gptqmodel(setting: Setting) -> Block:
    revision = f", revision={quoted(setting.revision)}" if setting.revision else ""
    return python(
        "from gptqmodel import GPTQModel",
        "",
        f"model = GPTQModel.load({quoted(setting.repo)}{revision})",
        f"answer = model.generate({quoted(setting.prompt)}, max_new_tokens=200)",
        "print(model.tokenizer.decode(answer[0], skip_special_tokens=True))",
    )


def _servers(setting: Setting) -> Iterator[Guide]:
    architecture, method = setting.facts.architecture, _method(setting)
    is_plain_gpt2 = architecture == "gpt2" and method is None
    if architecture not in IN_SERVERS and not is_plain_gpt2:
        return
    revision = ["--revision", setting.revision] if setting.revision else []
    yield Guide(
        "vLLM",
        (
            "Needs a GPU, as those below do.",
            shell(["pip", "install", "vllm"], ["vllm", "serve", setting.repo, *revision]),
            setting.call(VLLM_PORT, setting.repo),
        ),
    )
    sglang = ["python3", "-m", "sglang.launch_server", "--model-path", setting.repo, *revision]
    yield Guide(
        "SGLang", (shell([*sglang, "--port", str(SGLANG_PORT)]), setting.call(SGLANG_PORT, setting.repo))
    )
    docker = ["docker", "run", "--gpus", "all", "--shm-size", "1g", "-p", f"{TGI_PORT}:80", "-e", "HF_TOKEN"]
    quantised = ["--quantize", method] if method else []
    yield Guide(
        "Text Generation Inference",
        (
            "TGI is in maintenance: it gets mended, and no longer extended.",
            shell([*docker, TGI_IMAGE, "--model-id", setting.repo, *revision, *quantised]),
            setting.call(TGI_PORT, "tgi"),
        ),
    )
    if architecture in IN_TURBOMIND and _suits_turbomind(setting):
        serve = ["lmdeploy", "serve", "api_server", setting.repo, *revision, "--backend", "turbomind"]
        yield Guide(
            "LMDeploy",
            (
                shell(
                    ["pip", "install", "lmdeploy"], [*serve, *(["--model-format", method] if method else [])]
                ),
                setting.call(LMDEPLOY_PORT, setting.repo),
            ),
        )


def _suits_turbomind(setting: Setting) -> bool:
    """Its kernels know four bits in groups of 128, in the order in which they stand."""
    options = setting.candidate.manifest.options
    asked = (options.get("bits"), options.get("group_size"), bool(options.get("desc_act")))
    return _method(setting) is None or asked == (4, 128, False)


def _fastchat(setting: Setting) -> Iterator[Guide]:
    """FastChat knows prompts by name, and only ChatML's is one that many models share to the letter."""
    layout = setting.chat.layout if setting.chat else None
    is_known = layout is not None and layout.is_chatml and setting.facts.architecture in IN_SERVERS
    if not is_known or setting.revision:
        return
    method = _method(setting)
    worker = ["python3", "-m", "fastchat.serve.vllm_worker", "--model-path", setting.repo]
    worker += ["--conv-template", "qwen-7b-chat", *(["--quantization", method] if method else [])]
    yield Guide(
        "FastChat",
        (
            "With vLLM as its worker; each command runs on, so give each a terminal of its own.",
            shell(
                ["python3", "-m", "fastchat.serve.controller"],
                worker,
                ["python3", "-m", "fastchat.serve.openai_api_server", "--port", str(FASTCHAT_PORT)],
            ),
        ),
    )
