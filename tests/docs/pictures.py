"""Make the pictures of the README from the real thing: `python -m tests.docs.pictures`, a few minutes."""

from __future__ import annotations

import base64
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from contextlib import suppress
from pathlib import Path

from PIL import Image
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from tests.docs.parts import ROOT
from tests.report.chromium import Chromium, find_chromium

PLACE = ROOT / "docs" / "pictures"
COLUMNS, LINES = 80, 50
LARGEST_BYTES = 100_000
# No font from elsewhere: a picture in a README may not fetch one.
_FONTS = re.compile(r"@font-face \{\{.*?\}\}\n\s*", re.DOTALL)
SVG = _FONTS.sub("", CONSOLE_SVG_FORMAT).replace("Fira Code, monospace", "ui-monospace, monospace")


def last_screen(words: list[str], folder: Path) -> str:
    """Run a command in a terminal and return what it leaves there: all after the last line that it erased."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "PYTHONPATH": str(ROOT)}
    environment.pop("NO_COLOR", None)
    done = subprocess.Popen(
        [sys.executable, "-m", "convert.cli", *words],
        cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    written = bytearray()
    with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as stream:
        while data := stream.read(1 << 16):
            written += data
    if done.wait():
        sys.exit(f"error: modelwright {' '.join(words)} ended with {done.returncode}")
    return (
        re.sub(r"\x1b\[\?25[hl]", "", written.decode().rpartition("\x1b[2K")[2]).replace("\r", "").strip("\n")
    )


def terminal(folder: Path) -> str:
    """Convert and verify the model that comes with the project, as `make convert` does."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print("$ make convert", style="bold")
    for command in ("convert", "verify"):
        console.print(f"modelwright {command} tiny", style="dim")
        console.print(Text.from_ansi(last_screen([command, "tiny"], folder)))
    console.print()  # or the last line is cut
    return console.export_svg(title="make convert", code_format=SVG, unique_id="terminal")


def page(report: Path) -> bytes:
    """Show the top of the page in few colors."""
    program = find_chromium()
    if program is None:
        sys.exit("no Chromium is installed")
    with Chromium(program) as browser:
        browser.look(width=1200, height=820)
        browser.open(report)
        shot = base64.b64decode(browser.call("Page.captureScreenshot", format="png")["data"])
    out = io.BytesIO()
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(64).save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    PLACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        made = {"convert.svg": terminal(Path(home)).encode()}
        made["page.png"] = page(Path(home) / "artifacts" / "tiny" / "report.html")
    for name, data in made.items():
        if len(data) > LARGEST_BYTES:
            sys.exit(f"{name} has {len(data)} bytes")
        (PLACE / name).write_bytes(data)
        print(f"{name}: {len(data) / 1000:.0f} kB")
