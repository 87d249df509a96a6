"""Read files, and write as many bytes as others are long: what any conversion between them has to do.

python -m tests.bench.floor --read FILE… --write FILE=BYTES…

The files are waited for until they are on the disk, as modelwright does.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

CHUNK_BYTES = 4 << 20


def main() -> None:
    """Read and write by turns, in one thread."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--read", type=Path, nargs="+", required=True)
    parser.add_argument("--write", nargs="+", required=True)
    asked = parser.parse_args()
    buffer = bytearray(CHUNK_BYTES)
    for path in asked.read:
        with path.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    for each in asked.write:
        name, _, size = each.rpartition("=")
        with Path(name).open("wb", buffering=0) as stream:
            stream.writelines(
                buffer[: min(CHUNK_BYTES, int(size) - at)] for at in range(0, int(size), CHUNK_BYTES)
            )
            os.fsync(stream.fileno())


if __name__ == "__main__":
    main()
