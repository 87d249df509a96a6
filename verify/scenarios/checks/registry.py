"""The registry of checks: a function of one answer, by its own name, with the options a pack gives it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from verify.scenarios.fact import Fact
from verify.scenarios.wording import Language


@dataclass(frozen=True)
class Context:
    """An answer with everything that a check may look at."""

    answer: str  # tidied
    language: Language
    user: str = ""  # the user's words, as sent
    instruction: str = ""  # the prompt's own words, without materials and question
    question: str = ""
    materials: tuple[str, ...] = ()  # as sent, in the order of their numbers
    shown_as: Mapping[int, int] = field(default_factory=dict)  # of those sent: number in the pack → as sent
    earlier: tuple[str, ...] = ()  # the dialogue's earlier answers, tidied
    facts: tuple[Fact, ...] = ()
    is_chat: bool = True
    end: str | None = None  # why the answer ended: "end", "stop", "length", "loop"


@dataclass(frozen=True)
class Verdict:
    """The verdict of a check, with a short reason."""

    passed: bool
    why: str = ""


def right(why: str = "") -> Verdict:
    """Pass."""
    return Verdict(passed=True, why=why)


def bad(why: str) -> Verdict:
    """Fail."""
    return Verdict(passed=False, why=why)


@dataclass(frozen=True)
class Check:
    """A registered check."""

    name: str
    options: Any  # the type of what a pack writes after the check's name; bool where there is nothing to set
    example: Any
    judge: Callable[[Context, Any], Verdict]

    @property
    def about(self) -> str:
        """Return what is checked, for messages and documents."""
        return (self.judge.__doc__ or self.name).split("\n")[0]


CHECKS: dict[str, Check] = {}
Judge = TypeVar("Judge", bound="Callable[[Context, Any], Verdict]")


def check(options: Any = bool, *, example: Any = True) -> Callable[[Judge], Judge]:
    """Register a function as the check of its name."""

    def register(judge: Judge) -> Judge:
        CHECKS[judge.__name__] = Check(judge.__name__, options, example, judge)
        return judge

    return register
