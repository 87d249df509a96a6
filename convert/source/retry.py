"""Retries of requests: which failures, how often, and with which pauses."""

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event

from convert.errors import Failure
from convert.size import duration

TOO_MANY = 429
RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class Stopped(Exception):
    """The run is ending; leave what is resumable and return."""


@dataclass(frozen=True)
class RetryLimits:
    """Limits of retries; the defaults outlast a restarting load balancer and a minute of rate limit."""

    tries: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 20.0
    total_wait_s: float = 300.0
    connect_timeout_s: float = 15.0
    read_timeout_s: float = 30.0


class Transient(Exception):
    """The request failed, and may succeed later."""

    def __init__(self, reason: str, wait_s: float | None = None, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        self.hint = hint  # in place of the hint of whoever tries again


@dataclass
class Backoff:
    """Counts the failures of one file and waits between them."""

    label: str
    hint: str
    limits: RetryLimits
    stop: Event
    failures: int = 0
    waited_s: float = 0.0

    def reset(self) -> None:
        """Forget the failures so far, since there was real progress."""
        self.failures = 0

    def wait(self, fault: Transient) -> None:
        """Sleep before the next try, or raise a Failure after the last."""
        self.failures += 1
        pause_s = fault.wait_s
        if pause_s is None:
            pause_s = min(self.limits.first_wait_s * 2 ** (self.failures - 1), self.limits.longest_wait_s)
        asks = f", and asks to wait {duration(round(fault.wait_s))}" if fault.wait_s else ""
        what, hint = f"{self.label}: {fault.reason}{asks}", fault.hint or self.hint
        if self.failures >= self.limits.tries:
            raise Failure(f"{what}; gave up after {self.failures} tries", hint)
        if self.waited_s + pause_s > self.limits.total_wait_s:
            raise Failure(what, hint)
        self.waited_s += pause_s
        if self.stop.wait(pause_s):
            raise Stopped


def answered(who: str, status: int, headers: Mapping[str, str], account: str) -> Transient:
    """Describe an answer of RETRIED_STATUS; `account` says how to get one where requests are rationed."""
    if status != TOO_MANY:
        return Transient(f"{who} answered {status}", retry_after_s(headers))
    hint = f"wait so long, then run the same command: it goes on where it was; {account}"
    return Transient(f"{who} answered 429 (too many requests)", retry_after_s(headers), hint)


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the pause that the server asks for, by Retry-After or the Hub's RateLimit."""
    after = headers.get("retry-after", "").strip()
    if after.isdigit():
        return float(after)
    if after:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
        except ValueError:
            return None
    limit = re.search(r"\br=0;\s*t=(\d{1,9})\b", headers.get("ratelimit", ""))  # "api";r=0;t=55
    return float(limit[1]) if limit else None
