"""Models of other kinds than text decoders, each refused by what it is."""

from convert.errors import Failure
from convert.model.config import Config

# By the end of the class's name.
_KINDS = {
    "ForSequenceClassification": "a classifier",
    "ForTokenClassification": "a classifier of tokens",
    "ForQuestionAnswering": "a model that marks answers in a text",
    "ForMultipleChoice": "a classifier",
    "ForMaskedLM": "an encoder, which fills gaps and writes no text",
    "ForPreTraining": "an encoder, which fills gaps and writes no text",
    "ForImageClassification": "a vision model",
    "ForObjectDetection": "a vision model",
    "ForSemanticSegmentation": "a vision model",
    "ForAudioClassification": "an audio model",
    "ForCTC": "a speech recognizer",
    "ForSpeechSeq2Seq": "a speech recognizer",
    "ForRewardModel": "a reward model",
}
_TOWERS = ("vision_config", "audio_config")
_HINT = "modelwright converts text decoders: name the model's generating form"


def refuse_other_kinds(config: Config) -> None:
    """Refuse a model that is known not to be a text decoder."""
    classes = config.values.get("architectures")
    names = [name for name in classes if isinstance(name, str)] if isinstance(classes, list) else []
    for name in names:
        for end, kind in _KINDS.items():
            if name.endswith(end):
                raise Failure(f"{config.where}: {name} is {kind}, and no text decoder", _HINT)
    if config.values.get("is_encoder_decoder") is True:
        raise Failure(f"{config.where}: the model is an encoder with a decoder, and no decoder alone", _HINT)
    _refuse_without_decoder(config)
    if not config.has("text_config") and "vision_config" not in config.values and _is_vision(config):
        raise Failure(f"{config.where}: the model reads pictures and writes no text", _HINT)
    if config.has("vision_config") and names and names[0].endswith("Model"):
        raise Failure(f"{config.where}: {names[0]} compares texts with pictures and writes no text", _HINT)
    is_bare = bool(names) and names[0].endswith("Model") and not names[0].endswith("LMHeadModel")
    if is_bare and not config.has("text_config"):
        raise Failure(
            f"{config.where}: {names[0]} has no output head: it embeds texts and writes none", _HINT
        )


def _refuse_without_decoder(config: Config) -> None:
    """Refuse a multimodal model whose config does not describe a text decoder where ours is looked for."""
    if (inner := config.values.get("text_config")) and not isinstance(inner, dict):
        raise Failure(f"{config.where}: text_config is no object", "fetch the file again")
    for key, value in config.values.items():
        if key.endswith("_config") and isinstance(value, dict) and value.get("text_config"):
            raise Failure(
                f"{config.where}: the text decoder is a part of {key}, and is not read there", _HINT
            )
    towers = [key for key in _TOWERS if config.has(key)]
    if towers and not inner:
        raise Failure(
            f"{config.where}: {towers[0]} is there, and no text_config describes a text decoder",
            "current Transformers writes one when it loads and saves the model",
        )


def _is_vision(config: Config) -> bool:
    return config.has("image_size") and config.has("patch_size") and not config.has("vocab_size")
