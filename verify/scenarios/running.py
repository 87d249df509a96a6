"""Dialogues with a model, turn by turn, and the checks of every answer."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from convert.errors import Failure
from verify.scenarios.checks import CHECKS, Context
from verify.scenarios.material import clean
from verify.scenarios.pack import Dialogue, Pack, Turn
from verify.scenarios.prompt import Answerer, PromptBuilder
from verify.scenarios.tidying import tidy_chat, tidy_completion
from verify.scenarios.transcript import Exchange, Outcome, Step, Style, Transcript
from verify.scenarios.window import FittedMaterials, NoRoomError, Pair


def run(
    packs: Iterable[Pack], answerer: Answerer, watch: Callable[[Transcript], None] = lambda _: None
) -> tuple[Transcript, ...]:
    """Go through every dialogue of the packs; `watch` is called with each transcript."""
    done: list[Transcript] = []
    for pack in packs:
        for dialogue in pack.dialogues:
            done.append(converse(pack, dialogue, answerer))
            watch(done[-1])
    return tuple(done)


def converse(pack: Pack, dialogue: Dialogue, answerer: Answerer) -> Transcript:
    """Go through one dialogue; a turn without an answer fails, and ends it."""
    style: Style = "chat" if answerer.is_chat else "completion"
    prompts = PromptBuilder(pack, answerer)
    cleaned = [clean(text) for text in dialogue.materials]
    steps = tuple(
        Step("material cleaned", f"material {number}: {', '.join(each.steps)}")
        for number, each in enumerate(cleaned, 1)
        if each.steps
    )
    exchanges: list[Exchange] = []
    fitted: FittedMaterials | None = None
    for turn in dialogue.turns:
        user = pack.user(turn, ())
        try:
            if fitted is None:
                fitted = prompts.materials(dialogue, [each.text for each in cleaned])
                steps += fitted.steps
            user = pack.user(turn, fitted.texts)
            history: list[Pair] = [(each.user, each.answer) for each in exchanges]
            prompt = prompts.prompt(
                history, user, pack.max_tokens_of(turn), keeps_first=bool(dialogue.materials)
            )
            answer = prompts.ask(prompt)
        except NoRoomError:
            why = f"the context of {answerer.context_length} tokens is too small for this turn"
            exchanges.append(_unanswered(user, steps, why))
            break
        except Failure as failure:
            exchanges.append(_unanswered(user, steps, failure.message))
            break
        context = Context(
            answer="",
            raw=answer.text,
            language=pack.language,
            user=user,
            instruction=pack.instruction(turn),
            question=turn.question or turn.user or "",
            materials=fitted.texts,
            shown_as={place + 1: number for number, place in enumerate(fitted.places, 1)},
            earlier=tuple(each.answer for each in exchanges),
            facts=pack.facts,
            is_chat=answerer.is_chat,
            end=answer.end,
        )
        text, tidied = _tidy(pack, context, history)
        exchanges.append(
            Exchange(
                user=user,
                sent=prompt.sent,
                raw=answer.text,
                answer=text,
                end=answer.end,
                tokens=answer.tokens,
                steps=(*steps, *prompt.steps, *tidied),
                checks=judge(pack, turn, replace(context, answer=text)),
            )
        )
        steps = ()
    return Transcript(pack.scenario, pack.language, dialogue.name, style, tuple(exchanges))


def judge(pack: Pack, turn: Turn, context: Context) -> tuple[Outcome, ...]:
    """Make every check of one answer."""
    outcomes: list[Outcome] = []
    for name, options in pack.checks_of(turn).items():
        verdict = CHECKS[name].judge(context, options)
        outcomes.append(Outcome(name, verdict.passed, verdict.why, name not in pack.advisory))
    return tuple(outcomes)


def _tidy(pack: Pack, context: Context, history: list[Pair]) -> tuple[str, tuple[Step, ...]]:
    if context.is_chat:
        return tidy_chat(context.raw)
    known = "\n".join([context.user, *(part for pair in history for part in pair)])
    return tidy_completion(context.raw, pack.completion, known)


def _unanswered(user: str, steps: tuple[Step, ...], why: str) -> Exchange:
    """Return a turn without an answer: one required check that failed."""
    failed = Outcome("answered", passed=False, why=why, required=True)
    return Exchange(user, "", "", "", None, None, steps, (failed,))
