"""Dialogues with a model, turn by turn, and the checks of every answer."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeAlias

from convert.errors import Failure
from verify.scenarios.checks import CHECKS, Check, Context, Verdict, bad
from verify.scenarios.material import clean
from verify.scenarios.pack import Dialogue, Pack, Turn
from verify.scenarios.prompt import Answer, Answerer, Crowd, Prompt, PromptBuilder, ask
from verify.scenarios.tidying import tidy_chat, tidy_completion
from verify.scenarios.transcript import Exchange, Outcome, Step, Style, Transcript
from verify.scenarios.window import FittedMaterials, NoRoomError, Pair

Talk: TypeAlias = Generator[Prompt, Answer, Transcript]
# Another model's answers to each dialogue, turn by turn, by the names of its pack and its own.
Likely: TypeAlias = Mapping[tuple[str, str, str], Sequence[Exchange]]


def answers_of(transcripts: Iterable[Transcript]) -> Likely:
    """Return what a model answered, for another that may answer alike."""
    return {(each.scenario, each.language, each.dialogue): each.exchanges for each in transcripts}


def run(
    packs: Iterable[Pack],
    answerer: Answerer,
    watch: Callable[[Transcript], None] = lambda _: None,
    likely: Likely | None = None,
) -> tuple[Transcript, ...]:
    """Go through every dialogue of the packs; `watch` is called with each transcript."""
    work = [(pack, dialogue) for pack in packs for dialogue in pack.dialogues]
    if isinstance(answerer, Crowd) and answerer.seats > 1:
        return _converse_together(work, answerer, watch, likely or {})
    done: list[Transcript] = []
    for pack, dialogue in work:
        done.append(converse(pack, dialogue, answerer))
        watch(done[-1])
    return tuple(done)


def _converse_together(
    work: Sequence[tuple[Pack, Dialogue]],
    crowd: Crowd,
    watch: Callable[[Transcript], None],
    likely: Likely,
) -> tuple[Transcript, ...]:
    """Go through several dialogues at a time, one on each seat; the longest begin first."""
    answers = [likely.get((pack.scenario, pack.language, dialogue.name), ()) for pack, dialogue in work]

    def length(number: int) -> tuple[int, int]:
        return sum(each.tokens or 0 for each in answers[number]), _most_tokens(*work[number])

    waiting = deque(sorted(range(len(work)), key=length, reverse=True))
    talks: dict[int, tuple[int, Talk]] = {}
    asked: dict[int, Prompt] = {}
    done: dict[int, Transcript] = {}

    def go_on(seat: int, step: Callable[[], Prompt]) -> None:
        try:
            asked[seat] = step()
        except StopIteration as end:
            number, _ = talks.pop(seat)
            done[number] = end.value
            watch(end.value)

    while waiting or talks:
        while waiting and len(talks) < crowd.seats:
            seat = next(seat for seat in range(crowd.seats) if seat not in talks)
            number = waiting.popleft()
            pack, dialogue = work[number]
            talks[seat] = number, talk(pack, dialogue, crowd, answers[number])
            go_on(seat, partial(next, talks[seat][1]))
        if not talks:
            continue
        now, asked = asked, {}
        try:
            replies = crowd.advance(now)
        except Failure as failure:  # the process is gone, and each dialogue ends
            replies = dict.fromkeys(talks, failure)
        for seat, reply in replies.items():
            going = talks[seat][1]
            if isinstance(reply, Failure):
                go_on(seat, partial(going.throw, reply))
            else:
                go_on(seat, partial(going.send, reply))
    return tuple(done[number] for number in range(len(work)))


def _most_tokens(pack: Pack, dialogue: Dialogue) -> int:
    return sum(map(pack.max_tokens_of, dialogue.turns))


def converse(pack: Pack, dialogue: Dialogue, answerer: Answerer) -> Transcript:
    """Go through one dialogue."""
    going = talk(pack, dialogue, answerer)
    try:
        prompt = next(going)
        while True:
            try:
                answer = ask(answerer, prompt)
            except Failure as failure:
                prompt = going.throw(failure)
            else:
                prompt = going.send(answer)
    except StopIteration as end:
        transcript: Transcript = end.value
        return transcript


def talk(pack: Pack, dialogue: Dialogue, answerer: Answerer, likely: Sequence[Exchange] = ()) -> Talk:
    """Yield each prompt and take its answer; a turn without one fails, and ends the dialogue."""
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
            guess = likely[len(exchanges)].raw if len(exchanges) < len(likely) else ""
            answer = yield replace(prompt, likely=guess)
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
