"""``python -m prefsync``."""

import sys

from prefsync.cli import main

if __name__ == "__main__":
    sys.exit(main())
