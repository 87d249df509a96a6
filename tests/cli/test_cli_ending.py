"""How the process ends when a signal comes, or when nobody can read what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import IO

import pytest

from convert.errors import Exit


def list_schema(stdout: int | IO[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "convert.cli", "list", "--schema"]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


def test_a_reader_that_goes_away_is_no_bug() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ran = list_schema(writer)
    os.close(writer)
    assert (ran.returncode, ran.stderr) == (1, "")


def test_an_answer_that_finds_no_room_is_an_error() -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device
        ran = list_schema(full)
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: the disk is full\nhint:  ")


@pytest.mark.parametrize(
    ("line", "code"), [("list >&-", 0), ("list >&- 2>&- <&-", 0), ("plan no-such 2>&-", 2)]
)
def test_what_goes_to_a_closed_stream_goes_nowhere(line: str, code: int) -> None:
    command = ["sh", "-c", f'exec "$0" -m convert.cli {line}', sys.executable]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, "", "")


@pytest.mark.parametrize("unbuffered", ["", "1"])  # with it, nothing is left for the interpreter's end
def test_an_error_that_finds_no_room_keeps_its_exit_code(
    unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    command = [sys.executable, "-m", "convert.cli", "plan", "no-such"]
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device
        assert subprocess.run(command, stderr=full, check=False).returncode == Exit.USAGE


def test_ctrl_c_is_one_line_a_hint_and_130() -> None:
    program = (
        "import sys, time, click; from convert.cli import app\n"
        "def wait(): print('ready', flush=True); time.sleep(60)\n"
        "app.Commands.get_command = lambda *_: click.command('plan')(wait)\n"
        "sys.exit(app.run(['plan']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130
    assert said.splitlines()[0] == "error: interrupted"
    assert len(said.splitlines()) == 2


@pytest.mark.parametrize(("name", "ignored"), [("SIGINT", ""), ("SIGTERM", "INT")], ids=["SIGINT", "SIGTERM"])
def test_an_interrupt_that_python_loses_is_sent_again(name: str, ignored: str) -> None:
    """SIGTERM too where Ctrl-C is ignored, as a shell has it for what a script runs in the background."""
    script = (
        "import os, signal, sys, time\n"
        "from convert import cli\n"
        "from convert.cli import app\n"
        "class Careless:\n"
        "    def __del__(self):\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "        time.sleep(1)\n"
        "def lose(args):\n"
        "    Careless()\n"
        "    time.sleep(20)\n"
        "app._invoke = lose\n"
        "sys.exit(cli.main())\n"
    )
    shell = f"trap '' {ignored}; " if ignored else ""
    command = ["sh", "-c", f'{shell}exec "$0" -c "$1"', sys.executable, script]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == Exit.INTERRUPTED, done.stderr
    assert done.stderr.startswith("error: interrupted\n")


def test_an_interrupt_inside_exec_ends_with_the_promised_code() -> None:
    script = (
        "import os, signal, sys\n"
        "from convert import cli\n"
        "from convert.cli import app\n"
        "def lose(args):\n"
        "    exec('import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(1)')\n"
        "app._invoke = lose\n"
        "sys.exit(cli.main())\n"
    )
    line = [sys.executable, "-c", script]
    done = subprocess.run(line, capture_output=True, text=True, timeout=15, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (Exit.INTERRUPTED, "error: interrupted")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_an_end_from_outside_cleans_up_as_ctrl_c_does(name: str) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from convert import cli\n"
        "from convert.cli import app\n"
        "def work(args):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('cleaned up', flush=True)\n"
        "app._invoke = work\n"
        "sys.exit(cli.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (Exit.INTERRUPTED, "cleaned up\n")
    assert done.stderr.startswith("error: interrupted\nhint:  ")


@pytest.mark.parametrize(
    ("first", "second"), [("SIGTERM", "SIGTERM"), ("SIGHUP", "SIGHUP"), ("SIGTERM", "SIGHUP")]
)
def test_a_second_end_from_outside_does_not_break_off_the_cleaning_up(first: str, second: str) -> None:
    script = (
        "import os, signal, sys, time\n"
        "from convert import cli\n"
        "from convert.cli import app\n"
        "def work(args):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), signal.{first})\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        f"        os.kill(os.getpid(), signal.{second})\n"
        "        print('cleaned up', flush=True)\n"
        "app._invoke = work\n"
        "sys.exit(cli.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (Exit.INTERRUPTED, "cleaned up\n")


def test_what_nohup_ignores_stays_ignored() -> None:
    script = (
        "import os, signal, sys\n"
        "from convert import cli\n"
        "from convert.cli import app\n"
        "app._invoke = lambda _: os.kill(os.getpid(), signal.SIGHUP) or 0\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "sys.exit(cli.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_before_the_frame_stands_is_told_the_same() -> None:
    script = (
        "import sys, types\n"
        "from convert import cli\n"
        "class Slow(types.ModuleType):\n"
        "    def __getattr__(self, name):\n"
        "        raise KeyboardInterrupt\n"
        "sys.modules['convert.cli.app'] = Slow('app')\n"
        "sys.exit(cli.main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (Exit.INTERRUPTED, "error: interrupted")
