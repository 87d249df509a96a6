"""The pre-tokenizer of llama.cpp that splits text as a tokenizer does.

GGUF holds no regular expression for it, only a name whose splitting is compiled into llama.cpp. Its converter
finds the name by the digest of a check text's ids, which is specific to one vocabulary; for a vocabulary that
it does not know, the steps decide.
"""

import hashlib
import json

from convert.errors import Failure
from convert.model.splitting import BY_CASE, ONE_DIGIT, THREE_DIGITS
from convert.tokenizer.encoder import open_encoder, steps
from convert.tokenizer.file import Json

# conversion/base.py, get_vocab_base_pre: the text, and the digests of the families that we convert.
_CHECK_TEXT = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u200d🌫️ "
    "(multiple emojis concatenated) ✅ 🦙🦙 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 "
    "កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ ------======= нещо на Български "
    "''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? "
    "'M not sure I'll make it, 'D you like some tea? We'Ve a'lL"
)
_NAME_OF_DIGEST = {
    "3ce83efda5659b07b1ad37ca97ca5797ea4285d9b9ab0dc679e4a720c9da7454": "gpt-2",
    "0fe1cf6eda062318a1af7270f3331a85c539a01778ff948e24388e949c5282f4": "gpt-2",  # ruGPT3
    "e636dc30a262dcc0d8c323492e32ae2b70728f4df7dfe9737d9f920a282b8aea": "qwen2",  # Qwen, Qwen1.5 to Qwen3
    "d4540891389ea895b53b399da6ac824becc30f2fba0e9ddbb98f92e55ca0e97c": "qwen2",  # Qwen3-Embedding
    "b3f499bb4255f8ca19fccd664443283318f2fd2414d5e0b040fbdd0cc195d6c5": "deepseek-r1-qwen",
    "b0a6b1c0bd5998ebd9df08611efde34a4ff03faed45ae09c43e6b31ebd4b94cf": "a.x-4.0",
    "d4c8f286ea6b520b3d495c4455483cfa2302c0cfcd4be05d781b6a8a0a7cdaf1": "megrez",
    "0ef9807a4087ebef797fc749390439009c3b9eda9ad1a097abbe738f486c01e5": "llama-bpe",
    "c136ed14d01c2745d4f60a9596ae66800e2b61fa45643e72436041855ad4089d": "smaug-bpe",
    "9d032fcbd5501f4a38150912590928bfb36091efb5df11b8e2124b0390e3fb1e": "falcon3",
    "f6791d196f87ce6b56a7d234be618e0d58f8cda3549416635b2bebcd22cd95c4": "midm-2.0",
    "a8594e3edff7c29c003940395316294b2c623e09894deebbc65f33f1515df79e": "dbrx",  # Phi-4
    "ccc2ef013c104be7bae2965776d611e1d7a8a2a9c547dd93a682c9a9fc80352e": "gpt-4o",  # Phi-4-mini
    "855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249": "smollm",
    "63b97e4253352e6f357cc59ea5b583e3a680eaeaf2632188c2b952de2588485e": "tekken",  # Mistral-Nemo
    "0e9433cbbb161f89e264eb32e8e64bfe69e834973ffca5d41d3948a604a3e2a3": "pixtral",
    "049ecf7629871e3041641907f3de7c733e4dbfdc736f57d882ba0b0845599754": "deepseek-llm",
    "347715f544604f9118bb75ed199f68779f423cabb20db6de6f31b908d04d7821": "deepseek-coder",
    "1431a23e583c97432bc230bff598d103ddb5a1f89960c8f1d1051aaa944d0b35": "minerva-7b",
    "d5f1dd6f980fec569fb218a81a7658ac45fc56b38c5a0adeb1c232fbe04ef5ec": "seed-coder",
    "1994ffd01900cfb37395608534236ecd63f2bd5995d6cb1004dda1af50240f15": "trillion",
    "7fc505bd3104ca1083b150b17d088b59534ede9bde81f0dd2090967d7fe52cee": "viking",
    "a1e163ecab2e718a4c829d1148b6e86824ec36163bb71941c3dca9cd5ac25756": "mellum",
}

BYTE_LEVEL_STEP = "ByteLevel with its own expression"

# The steps, and whether a whole word that is a token skips the merges → llama.cpp's name.
_NAME_OF_STEPS = {
    ((BYTE_LEVEL_STEP,), False): "gpt-2",
    ((ONE_DIGIT,), False): "qwen2",
    ((THREE_DIGITS,), True): "llama-bpe",
    ((THREE_DIGITS,), False): "smaug-bpe",
    ((BY_CASE,), True): "tekken",
    (("Digits, one by one", BYTE_LEVEL_STEP), False): "smollm",
}


_LEAVE_OUT = "leave the gguf target out; the other formats contain these steps"


def identify(tokenizer_json: bytes) -> str:
    """Return `tokenizer.ggml.pre` for a byte-level tokenizer."""
    content = json.loads(tokenizer_json)
    normalizer = steps(content["normalizer"], "normalizers")
    if any(step["type"] != "NFC" for step in normalizer):
        raise Failure(
            f"tokenizer: llama.cpp does not change text as {json.dumps(normalizer, ensure_ascii=False)} does",
            _LEAVE_OUT,
        )
    ids = open_encoder(tokenizer_json).encode(_CHECK_TEXT).ids
    known = _NAME_OF_DIGEST.get(hashlib.sha256(str(ids).encode()).hexdigest())
    if known:
        return known
    described = tuple(describe(content["pre_tokenizer"]))
    name = _NAME_OF_STEPS.get((described, content["model"]["ignore_merges"]))
    if name is None:
        raise Failure(
            "tokenizer: llama.cpp has no pre-tokenizer that splits text by "
            + ", then ".join(described)
            + (" and skips the merges for whole words" if content["model"]["ignore_merges"] else ""),
            _LEAVE_OUT,
        )
    return name


def describe(stage: Json) -> list[str]:
    """Describe the steps of a byte-level pre-tokenizer in a line each: an expression, or what it does."""
    if stage["type"] == "Sequence":
        return [line for step in stage["pretokenizers"] for line in describe(step)]
    if stage["type"] == "ByteLevel":
        words = [BYTE_LEVEL_STEP] if stage.get("use_regex", True) else []
        return [*words, *(["a space before the text"] if stage.get("add_prefix_space", True) else [])]
    if stage["type"] == "Digits" and stage.get("individual_digits"):
        return ["Digits, one by one"]
    if stage["type"] == "Split" and "Regex" in stage["pattern"]:
        # Where everything matches, keeping the matches is the same as removing what is between them.
        how = (stage["behavior"], stage.get("invert", False))
        whole = how in (("Isolated", False), ("Removed", True))
        return [stage["pattern"]["Regex"] + ("" if whole else f" ({stage['behavior']})")]
    return [json.dumps(stage, ensure_ascii=False)]
