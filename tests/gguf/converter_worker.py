"""llama.cpp's own converter, kept loaded: a job a line comes in, and an answer a line goes out.

python converter_worker.py LLAMA_CPP: the folder of its `convert_hf_to_gguf.py`. Runs apart from the tests,
with the gguf-py that comes with it. Each job has a process of its own, as the converter keeps the state of
a model in its classes.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any


def adapt(base: Any, job: dict[str, Any]) -> None:
    """Put in what a tiny model cannot have: first of all a tokenizer that the converter knows by a digest."""
    base.TextModel.get_vocab_base_pre = lambda _model, _tokenizer: "gpt-2"
    if job["vocabulary"] != "own":
        transformers = importlib.import_module("transformers")
        # The family's own class would add tokens that tokenizer.json does not have.
        transformers.AutoTokenizer.from_pretrained = lambda folder, **_: (
            transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        )
        plain = base.TextModel._set_vocab_gpt2 if job["vocabulary"] == "plain" else lambda _model: None
        pending = [base.TextModel]
        while pending:
            pending += pending.pop().__subclasses__()
            for model in pending:
                model.set_vocab = plain
    if job["is_config_raw"]:
        base.ModelBase.load_hparams = staticmethod(
            lambda folder, *_, **_more: json.loads((Path(folder) / "config.json").read_text("utf-8"))
        )


def convert(llama_cpp: Path, job: dict[str, Any]) -> None:
    """Run the converter as its command line does."""
    adapt(importlib.import_module("conversion.base"), job)
    script = llama_cpp / "convert_hf_to_gguf.py"
    sys.argv = [script.name, job["folder"], "--outtype", job["type"], "--outfile", job["out"], *job["flags"]]
    runpy.run_path(str(script), run_name="__main__")


def answer(llama_cpp: Path, job: dict[str, Any]) -> str:
    """Convert in a child; give the last line of its error, or nothing."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        code, said = 0, ""
        try:
            convert(llama_cpp, job)
        except SystemExit as ended:
            code = int(bool(ended.code))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the answer
            traceback.print_exc()
            code, said = 1, " ".join(f"{type(error).__name__}: {error}".split())
        os.write(send, said.encode()[:4096])
        sys.stderr.flush()
        os._exit(code)
    os.close(send)
    with os.fdopen(receive) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return said or (f"ended with {status}" if status else "")


def main() -> None:
    """Answer until the jobs end."""
    llama_cpp = Path(sys.argv[1])
    sys.path[:0] = [str(llama_cpp), str(llama_cpp / "gguf-py")]
    importlib.import_module("conversion").load_all_models()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the converter prints
    for line in sys.stdin:
        print(json.dumps(answer(llama_cpp, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
