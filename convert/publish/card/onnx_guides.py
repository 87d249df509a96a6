"""Who reads these ONNX graphs: onnxruntime-genai, whose operators and configuration they use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.publish.card.guide import Guide, python, quoted, shell

if TYPE_CHECKING:
    from convert.publish.card.guide import Block, Setting

ANSWER_TOKENS = 200


def guides(setting: Setting) -> list[Guide]:
    """The one runtime."""
    package = "onnxruntime-genai-cuda" if _is_cuda(setting) else "onnxruntime-genai"
    words = (
        "The graphs use operators of ONNX Runtime's own, and keep their cache as its generation library "
        "does; other runtimes of ONNX do not load them."
    )
    install = shell(["pip", "install", package, "huggingface_hub"])
    return [Guide("onnxruntime-genai", (words, install, _program(setting)))]


def _is_cuda(setting: Setting) -> bool:
    said = (setting.candidate.manifest.options.get("provider"), setting.candidate.target)
    return any("cuda" in str(each).lower() for each in said)


def _program(setting: Setting) -> Block:
    prefix = setting.candidate.prefix.rstrip("/")
    given = [quoted(setting.repo)]
    given += [f"revision={quoted(setting.revision)}"] if setting.revision else []
    given += [f"allow_patterns={quoted([f'{prefix}/*'])}"] if prefix else []
    where = f'f"{{folder}}/{prefix}"' if prefix else "folder"
    asking: tuple[str, ...]
    if setting.is_chat:
        asking = (
            f'messages = [{{"role": "user", "content": {quoted(setting.prompt)}}}]',
            "prompt = tokenizer.apply_chat_template(json.dumps(messages), add_generation_prompt=True)",
        )
    else:
        asking = (f"prompt = {quoted(setting.prompt)}",)
    imports = ("import json", "") if setting.is_chat else ()
    return python(
        *imports,
        "import onnxruntime_genai as og",
        "from huggingface_hub import snapshot_download",
        "",
        f"folder = snapshot_download({', '.join(given)})",
        f"model = og.Model({where})",
        "tokenizer = og.Tokenizer(model)",
        *asking,
        "ids = tokenizer.encode(prompt)",
        "params = og.GeneratorParams(model)",
        f"params.set_search_options(max_length=min(len(ids) + {ANSWER_TOKENS}, {setting.context}))",
        "generator = og.Generator(model, params)",
        "generator.append_tokens(ids)",
        "stream = tokenizer.create_stream()",
        "while not generator.is_done():",
        "    generator.generate_next_token()",
        '    print(stream.decode(generator.get_next_tokens()[0]), end="", flush=True)',
    )
