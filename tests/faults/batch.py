"""The child of a sweep: reads mutants one after the other, within limits, and says what each did."""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

from convert.errors import Failure
from tests.faults.kinds import KINDS, emptied, open_reader
from tests.faults.mutate import mutant

MEMORY_BYTES = 1 << 30
CPU_S = 10.0
LONGEST_MESSAGE = 20_000


def main(names: list[str], seed: int, start: int, count: int) -> None:
    """Read `count` mutants of each kind, of the first from `start` on.

    Writes a line for each before it is read, and for each defect.
    """
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        root = Path(place)
        samples = {name: KINDS[name].samples(emptied(root / "samples")) for name in names}
        bound_memory()
        for name in names:
            for number in range(start if name == names[0] else 0, count):
                draw = random.Random(f"{seed} {name} {number}")
                data = mutant(draw.choice(samples[name]), draw, is_json=KINDS[name].is_json)
                print(f"at {name} {number}", flush=True)
                if what := defect(name, data, root / "one"):
                    print(f"defect {name} {number}: {what}", flush=True)
    print("done", flush=True)


def bound_memory() -> None:
    """Let this process take so much more than it has."""
    used = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY_BYTES, used + MEMORY_BYTES))


def defect(name: str, data: bytes, folder: Path) -> str | None:
    """Read one mutant, and say what is wrong with how that went."""
    began = time.process_time()
    try:
        (open_reader if os.environ.get("FAULTS_OPEN_READER") == name else KINDS[name].reads)(
            data, emptied(folder)
        )
    except Failure as failure:
        if len(failure.message) > LONGEST_MESSAGE:
            return f"a message of {len(failure.message)} characters"
    except BaseException as fault:  # noqa: BLE001  (what a reader let through is what is looked for)
        frame = traceback.extract_tb(fault.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        return f"{type(fault).__name__} in {where}: {str(fault)[:120]!r}"
    took_s = time.process_time() - began
    return f"took {took_s:.0f} s" if took_s > CPU_S else None


if __name__ == "__main__":
    main(sys.argv[1].split(","), *map(int, sys.argv[2:5]))
