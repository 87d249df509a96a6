"""Who reads GGUF: llama.cpp, what is built on it, and some that take it besides their own formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.publish.card import ollama
from convert.publish.card.guide import Guide, python, quoted, shell
from convert.publish.card.label import label, weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.publish.card.guide import Block, Setting

PORT = 8080
# GGUF's names of architectures that these can turn back into what they know.
IN_TRANSFORMERS = ("llama", "qwen2", "qwen3", "phi3", "gpt2")
IN_SERVERS = ("llama", "qwen2", "qwen3")
ANSWER_TOKENS = "200"
LLAMAFILE = "https://github.com/mozilla-ai/llamafile/releases"
VLLM_PLUGIN = "https://github.com/vllm-project/vllm-gguf-plugin"


def guides(setting: Setting) -> list[Guide]:
    """In the order in which people ask for them."""
    return [_download(setting), *_llama_cpp(setting), *_applications(setting), *_others(setting)]


def _download(setting: Setting) -> Guide:
    """The file by itself, which some of those below want and the others fetch by themselves."""
    own = [ollama.MODELFILE] if ollama.is_whole(setting.candidate) and not setting.candidate.prefix else []
    return Guide("Download", (shell(setting.download(*_paths(setting), *own)),))


def _paths(setting: Setting) -> list[str]:
    return [setting.candidate.shipped_path(file.path) for file in weights(setting.candidate)]


def _local(setting: Setting) -> str:
    """The file as it lies after the download; of several the first, which names the others."""
    return f"{setting.folder}/{_paths(setting)[0]}"


def _llama_cpp(setting: Setting) -> Iterator[Guide]:
    quant, context = label(setting.candidate), str(setting.context)
    # `-hf` takes files of the main branch, by their quant.
    model = ["-m", _local(setting)] if setting.revision else ["-hf", f"{setting.repo}:{quant}"]
    if setting.is_chat:
        ask = ["llama-cli", *model, "-c", context]
    else:
        ask = [
            "llama-completion",
            *model,
            "-c",
            context,
            "-no-cnv",
            "-p",
            setting.prompt,
            "-n",
            ANSWER_TOKENS,
        ]
    serve = ["llama-server", *model, "-c", context, "--port", str(PORT)]
    what = "Chat in the terminal" if setting.is_chat else "Let it continue a text"
    yield Guide(
        "llama.cpp",
        (
            f"{what}, or serve OpenAI's API, with a page to try it on at <http://localhost:{PORT}>:",
            shell(ask, serve),
            setting.call(PORT, quant),
        ),
    )
    yield Guide("llama-cpp-python", (shell(["pip", "install", "llama-cpp-python"]), _program(setting)))


def _program(setting: Setting) -> Block:
    first, *rest = _paths(setting)
    more = [f"    additional_files={quoted(rest)},"] if rest else []
    more += [f"    revision={quoted(setting.revision)},"] if setting.revision else []
    loading = (
        "from llama_cpp import Llama",
        "",
        "llm = Llama.from_pretrained(",
        f"    repo_id={quoted(setting.repo)},",
        f"    filename={quoted(first)},",
        *more,
        f"    n_ctx={setting.context},",
        "    verbose=False,",
        ")",
    )
    if setting.is_chat:
        return python(
            *loading,
            f'messages = [{{"role": "user", "content": {quoted(setting.prompt)}}}]',
            f"answer = llm.create_chat_completion(messages=messages, max_tokens={ANSWER_TOKENS})",
            'print(answer["choices"][0]["message"]["content"])',
        )
    return python(
        *loading,
        f"answer = llm.create_completion({quoted(setting.prompt)}, max_tokens={ANSWER_TOKENS})",
        'print(answer["choices"][0]["text"])',
    )


def _applications(setting: Setting) -> Iterator[Guide]:
    quant = label(setting.candidate)
    if not ollama.is_whole(setting.candidate):
        joined = f"{setting.folder}/{setting.bundle.title}-{quant}.gguf"
        yield Guide(
            "Ollama, llamafile, LM Studio",
            (
                "These want one file: join the pieces with llama.cpp's tool first.",
                shell(["llama-gguf-split", "--merge", _local(setting), joined]),
            ),
        )
        return
    modelfile = f"{setting.folder}/{ollama.MODELFILE}"
    name = f"{setting.bundle.title}:{quant}".lower()
    made = shell(["ollama", "create", name, "-f", modelfile], ["ollama", "run", name])
    written = f"the [`{ollama.MODELFILE}`]({ollama.MODELFILE})"
    if setting.revision:
        yield Guide("Ollama", (f"From the downloaded files, by {written}:", made))
    else:
        from_hub = shell(["ollama", "run", f"hf.co/{setting.repo}:{quant}"])
        yield Guide("Ollama", (from_hub, f"Or from the downloaded files, by {written}:", made))
    run = ["llamafile", "-m", _local(setting)]
    chat = [[*run, "--chat"]] if setting.is_chat else []
    yield Guide(
        "llamafile",
        (
            f"With the program from its [releases]({LLAMAFILE}), and the file:",
            shell(*chat, [*run, "--server", "--port", str(PORT)]),
        ),
    )
    yield Guide(
        "LM Studio",
        (
            "Search for this repo's name in the application, or hand it the downloaded file:",
            shell(["lms", "import", _local(setting)]),
        ),
    )


def _others(setting: Setting) -> Iterator[Guide]:
    whole, architecture = ollama.is_whole(setting.candidate), setting.facts.architecture
    if whole and architecture in IN_TRANSFORMERS:
        yield Guide(
            "Transformers",
            (
                "Turns the weights back into floats, so it takes the memory of the unquantised model.",
                shell(["pip", "install", "transformers", "torch", "gguf", "accelerate"]),
                _transformers(setting),
            ),
        )
    base = setting.base
    if not (whole and architecture in IN_SERVERS and base and setting.has_plain_tokenizer):
        return
    quant = label(setting.candidate)
    served = f"{setting.repo}:{quant}"
    if setting.revision is None:
        yield Guide(
            "vLLM",
            (
                f"Needs a GPU and the [plugin for GGUF]({VLLM_PLUGIN}); the tokenizer is the source's own.",
                shell(
                    ["pip", "install", "vllm", "vllm-gguf-plugin"],
                    ["vllm", "serve", served, "--tokenizer", base],
                ),
            ),
        )
    launch = [
        "python3",
        "-m",
        "sglang.launch_server",
        "--model-path",
        _local(setting),
        "--tokenizer-path",
        base,
    ]
    yield Guide("SGLang", ("Needs a GPU.", shell(launch)))


def _transformers(setting: Setting) -> Block:
    given = [quoted(setting.repo), f"gguf_file={quoted(_paths(setting)[0])}"]
    given += [f"revision={quoted(setting.revision)}"] if setting.revision else []
    where = ", ".join(given)
    return python(
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({where})",
        f"model = AutoModelForCausalLM.from_pretrained({where})",
        *generation(setting),
    )


def generation(setting: Setting) -> tuple[str, ...]:
    """Ask a model of Transformers'."""
    inputs: tuple[str, ...]
    if setting.is_chat:
        inputs = (
            f'messages = [{{"role": "user", "content": {quoted(setting.prompt)}}}]',
            "inputs = tokenizer.apply_chat_template(",
            '    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"',
            ").to(model.device)",
        )
    else:
        inputs = (f'inputs = tokenizer({quoted(setting.prompt)}, return_tensors="pt").to(model.device)',)
    return (
        *inputs,
        f"answer = model.generate(**inputs, max_new_tokens={ANSWER_TOKENS})",
        'length = inputs["input_ids"].shape[1]',
        "print(tokenizer.decode(answer[0, length:], skip_special_tokens=True))",
    )
