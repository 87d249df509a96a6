"""`make faults`: so many mutants of each kind of file; a line for each defect, and one for each kind."""

from __future__ import annotations

import argparse
import sys

from tests.faults.kinds import KINDS
from tests.faults.sweep import sweep


def main() -> int:
    """Sweep every kind; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="mutants of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("kinds", nargs="*", default=list(KINDS), metavar="KIND")
    asked = parser.parse_args()
    total = 0
    for name in asked.kinds:
        defects = sweep([name], asked.count, asked.seed)
        for line in defects:
            print(line)
        print(f"{name}: {asked.count} mutants, {len(defects)} defects", flush=True)
        total += len(defects)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
