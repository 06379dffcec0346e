"""`python -m fall_assets.edge`: the same as `fall-edge`."""

from __future__ import annotations

import sys

from fall_assets.edge.cli import main

if __name__ == "__main__":
    sys.exit(main())
