"""The facts about a model that its card and its run guides need: from the manifest, and the chat template."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from convert.checkpoint.gguf_file import read_gguf
from convert.errors import Failure
from convert.model.families import family, supported
from convert.publish.bundle import Candidate
from convert.publish.card.label import shipping_of, weights
from convert.store.manifest import inside

_AGAIN = "run `modelwright convert` again"


@dataclass(frozen=True)
class Facts:
    """A model as those who run it know it."""

    family: str | None = None
    context: int | None = None
    parameters: int | None = None
    # Jinja, and a stranger's program: it is shown, and probed in a sandbox.
    template: str | None = field(default=None, repr=False)
    markup: Mapping[str, str] = field(default_factory=dict)  # bos_token and eos_token, as templates name them
    adds_bos: bool = True  # whether the tokenizer begins every text with bos_token
    ends: Mapping[int, str] = field(default_factory=dict)  # the tokens that end an answer
    sampling: Mapping[str, float] = field(default_factory=dict)  # as the source's authors advise
    runs_in: frozenset[str] = frozenset()  # the family's RUNS_IN
    fastchat_prompt: str | None = None  # FastChat's name for the family's prompt

    @property
    def is_chat(self) -> bool:
        """Return whether the model takes turns; one without a template continues a text."""
        return self.template is not None


def gather(candidate: Candidate) -> Facts:
    """Gather what the manifest records of the model, and the chat template that the artifact ships."""
    model = candidate.manifest.model
    if model is None:
        raise Failure(f"{candidate.target}: built by an older version, which recorded less", _AGAIN)
    if model.family not in supported():
        raise Failure(
            f"{candidate.target}: this version knows no {model.family!r} models", "upgrade modelwright"
        )
    known = family(model.family)
    ends = {token.id: token.text for token in model.ends}
    return Facts(
        family=model.family,
        context=model.context_length,
        parameters=model.parameter_count,
        template=None if model.chat_template_sha256 is None else _template(candidate),
        markup={
            "bos_token": model.bos.text if model.bos else "",
            "eos_token": next(iter(ends.values()), ""),
        },
        adds_bos=model.adds_bos,
        ends=ends,
        sampling=model.sampling,
        runs_in=known.runs_in,
        fastchat_prompt=known.fastchat_prompt,
    )


def _template(candidate: Candidate) -> str:
    """Read the chat template from the artifact, and check that it is the one in the manifest."""
    name = shipping_of(candidate).chat_template
    if name is None:
        path = inside(candidate.folder, weights(candidate)[0].path)
        text = str(read_gguf(path).metadata.get("tokenizer.chat_template"))
    else:
        text = inside(candidate.folder, name).read_text("utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    if digest != candidate.manifest.chat_template_sha256:
        raise Failure(f"{candidate.target}: its chat template is not the one that was built", _AGAIN)
    return text
