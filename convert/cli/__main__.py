"""`python -m convert.cli` is the `modelwright` command."""

import sys

from convert.cli import main

sys.exit(main())
