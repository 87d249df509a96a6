"""Texts without the secrets and folders of the machine that they come from."""

import re
from typing import Any

_SECRETS = re.compile(
    r"\bhf_[A-Za-z0-9]{16,}|\bsk-[\w-]{20,}|\bgh[pousr]_[A-Za-z0-9]{20,}|\bAKIA[0-9A-Z]{16}\b"
    # A password may have slashes. Its length is bounded, for texts of nothing but colons.
    r"|(?<=://)[^\s/@:]{0,256}:[^\s@]{1,512}+(?=@)"
)
_FOLDERS = re.compile(
    r"(?:file://|(?<![\w./:~<-]))(?:~[\w.-]*)?/(?:[^\s/'\"`,;:()\[\]{}<>]+/)+|\b[A-Za-z]:\\(?:[^\s\\]+\\)+"
)


def redact(text: str) -> str:
    """Remove tokens, passwords and the folders of files."""
    return _FOLDERS.sub("…/", _SECRETS.sub("…", text))


def redact_all(value: Any) -> Any:
    """Redact every text in what a JSON file holds."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(name): redact_all(each) for name, each in value.items()}
    return [redact_all(each) for each in value] if isinstance(value, list) else value
