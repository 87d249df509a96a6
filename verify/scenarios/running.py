"""Dialogues with a model, turn by turn, and the checks of every answer."""

from collections.abc import Callable, Iterable

from convert.errors import Failure
from verify.scenarios.checks import CHECKS, Check, Context, Verdict, bad
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
        except (NoRoomError, Failure) as fault:
            no_room = f"the context of {answerer.context_length} tokens is too small for this turn"
            why = fault.message if isinstance(fault, Failure) else no_room
            failed = Outcome("answered", passed=False, why=why, required=True)
            exchanges.append(Exchange(user, "", "", "", None, None, steps, (failed,)))
            break
        if answerer.is_chat:
            text, tidied = tidy_chat(answer.text)
        else:
            known = "\n".join([user, *(part for pair in history for part in pair)])
            text, tidied = tidy_completion(answer.text, pack.completion, known)
        context = Context(
            answer=text,
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
        exchanges.append(
            Exchange(
                user=user,
                sent=prompt.sent,
                raw=answer.text,
                answer=text,
                end=answer.end,
                tokens=answer.tokens,
                steps=(*steps, *prompt.steps, *tidied),
                checks=judge(pack, turn, context),
            )
        )
        steps = ()
    return Transcript(pack.scenario, pack.language, dialogue.name, style, tuple(exchanges))


def judge(pack: Pack, turn: Turn, context: Context) -> tuple[Outcome, ...]:
    """Make every check of one answer."""
    asked = pack.checks_of(turn).items()
    verdicts = [(name, _verdict(CHECKS[name], context, options)) for name, options in asked]
    return tuple(Outcome(name, it.passed, it.why, name not in pack.advisory) for name, it in verdicts)


def _verdict(check: Check, context: Context, options: object) -> Verdict:
    """Make one check; one that raises has failed, and the other answers are still judged."""
    try:
        return check.judge(context, options)
    except Exception as fault:  # noqa: BLE001  (a model chose the text)
        return bad(f"the check broke on this answer: {type(fault).__name__}: {str(fault)[:80]}")
