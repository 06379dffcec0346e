"""Where the packaged `fall-edge` begins. What belongs here: nothing but the way in."""

import sys

from fall_assets.edge.cli import main

if __name__ == "__main__":
    sys.exit(main())
