"""Write the generated parts of every document: `python -m tests.docs`; `--check` changes nothing."""

from __future__ import annotations

import sys

from tests.docs.parts import ROOT, documents, written

if __name__ == "__main__":
    stale = {path: made for path in documents() if (made := written(text := path.read_text("utf-8"))) != text}
    for path, made in stale.items():
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv:
            path.write_text(made, "utf-8")
    sys.exit(bool(stale) and "--check" in sys.argv)
