"""``python -m weft``: see `weft.frontend.cli`."""

import sys

from weft.frontend.cli import main

if __name__ == "__main__":
    sys.exit(main())
