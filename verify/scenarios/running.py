"""Runs dialogues against a model, turn by turn, and judges every answer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convert.errors import Failure
from verify.scenarios.asking import Answerer, Asking
from verify.scenarios.checks import CHECKS, Seen
from verify.scenarios.material import clean
from verify.scenarios.tidying import tidy_chat, tidy_completion
from verify.scenarios.transcript import Exchange, Outcome, Step, Style, Transcript
from verify.scenarios.window import NoRoomError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from verify.scenarios.pack import Dialogue, Pack, Turn
    from verify.scenarios.window import Fitted, Pair


def run(
    packs: Iterable[Pack], answerer: Answerer, tell: Callable[[Transcript], None] = lambda _: None
) -> tuple[Transcript, ...]:
    """Ask every dialogue of the packs; `tell` hears of each as it is done."""
    done: list[Transcript] = []
    for pack in packs:
        for dialogue in pack.dialogues:
            done.append(converse(pack, dialogue, answerer))
            tell(done[-1])
    return tuple(done)


def converse(pack: Pack, dialogue: Dialogue, answerer: Answerer) -> Transcript:
    """Hold one dialogue; a turn that the model does not answer fails, and ends it."""
    style: Style = "chat" if answerer.is_chat else "completion"
    asking = Asking(pack, answerer)
    cleaned = [clean(text) for text in dialogue.materials]
    steps = tuple(
        Step("material cleaned", f"material {number}: {', '.join(each.steps)}")
        for number, each in enumerate(cleaned, 1)
        if each.steps
    )
    exchanges: list[Exchange] = []
    fitted: Fitted | None = None
    for turn in dialogue.turns:
        user = pack.user(turn, ())
        try:
            if fitted is None:
                fitted = asking.materials(dialogue, [each.text for each in cleaned])
                steps += fitted.steps
            user = pack.user(turn, fitted.texts)
            history: list[Pair] = [(each.user, each.answer) for each in exchanges]
            prompt = asking.prompt(
                history, user, pack.max_tokens_of(turn), keeps_first=bool(dialogue.materials)
            )
            answer = asking.ask(prompt)
        except NoRoomError:
            why = f"the context of {answerer.context_length} tokens is too small for this turn"
            exchanges.append(_unanswered(user, steps, why))
            break
        except Failure as failure:
            exchanges.append(_unanswered(user, steps, failure.message))
            break
        seen = Seen(
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
        text, tidied = _tidy(pack, seen, history)
        exchanges.append(
            Exchange(
                user=user,
                sent=prompt.sent,
                raw=answer.text,
                answer=text,
                end=answer.end,
                tokens=answer.tokens,
                steps=(*steps, *prompt.steps, *tidied),
                checks=judge(pack, turn, replace(seen, answer=text)),
            )
        )
        steps = ()
    return Transcript(pack.scenario, pack.language, dialogue.name, style, tuple(exchanges))


def judge(pack: Pack, turn: Turn, seen: Seen) -> tuple[Outcome, ...]:
    """Every check of one answer."""
    outcomes: list[Outcome] = []
    for name, options in pack.checks_of(turn).items():
        verdict = CHECKS[name].judge(seen, options)
        outcomes.append(Outcome(name, verdict.passed, verdict.why, name not in pack.advisory))
    return tuple(outcomes)


def _tidy(pack: Pack, seen: Seen, history: list[Pair]) -> tuple[str, tuple[Step, ...]]:
    if seen.is_chat:
        return tidy_chat(seen.raw)
    context = "\n".join([seen.user, *(part for pair in history for part in pair)])
    return tidy_completion(seen.raw, pack.completion, context)


def _unanswered(user: str, steps: tuple[Step, ...], why: str) -> Exchange:
    """A turn that came to nothing: one required check that failed."""
    failed = Outcome("answered", passed=False, why=why, required=True)
    return Exchange(user, "", "", "", None, None, steps, (failed,))
