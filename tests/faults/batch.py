"""The child of a sweep: reads mutants one after the other, within limits, and says what each did."""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

from convert.errors import Failure
from tests.faults.kinds import KINDS, emptied
from tests.faults.mutate import mutant

MEMORY_BYTES = 1 << 30
CPU_S = 10.0


def main(name: str, seed: int, start: int, stop: int) -> None:
    """Read mutants `start` to `stop` of a kind; a line for each before it is read, and for each defect."""
    kind = KINDS[name]
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        root = Path(place)
        samples = kind.samples(root)
        used = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY_BYTES, used + MEMORY_BYTES))
        for number in range(start, stop):
            draw = random.Random(f"{seed} {name} {number}")
            data = mutant(draw.choice(samples), draw, is_json=kind.is_json)
            print(f"at {number}", flush=True)
            began = time.process_time()
            try:
                kind.reads(data, emptied(root / "one"))
            except Failure as failure:
                if len(failure.message) > 20_000:
                    print(f"defect {number} a message of {len(failure.message)} characters", flush=True)
            except BaseException as fault:  # noqa: BLE001  (what a reader let through is what is looked for)
                frame = traceback.extract_tb(fault.__traceback__)[-1]
                where = f"{Path(frame.filename).name}:{frame.lineno}"
                print(f"defect {number} {type(fault).__name__} in {where}: {str(fault)[:120]!r}", flush=True)
            if (took_s := time.process_time() - began) > CPU_S:
                print(f"defect {number} took {took_s:.0f} s", flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
