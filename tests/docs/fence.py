"""Code blocks of documents; by itself, for a site is built without what modelwright needs."""

import re

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
