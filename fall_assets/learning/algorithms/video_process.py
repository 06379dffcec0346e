"""One process of several that train a video network together; torchrun starts them.

`python -m torch.distributed.run --nproc-per-node GPUS -m THIS_MODULE TASK OUT`: TASK is a folder
that `video_network.write_task` wrote, OUT an empty one for the model. Nothing else belongs here.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fall_assets.learning.algorithms.video_network import train_beside_others

if __name__ == "__main__":
    train_beside_others(*map(Path, sys.argv[1:]))
