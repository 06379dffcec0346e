"""Learning a detector from pose tracks, judging it in events, and keeping it in MLflow.

What belongs here: windows over tracks, the network and its training, events and their metrics,
cross-validation, plots, tracking. What does not: Dagster, reading video, writing the lake.
`network`, `training` and `detector` load torch; `tracking` loads mlflow and `plots` matplotlib
when they are used: nothing that definitions import may import these modules at module level.
"""

import os

# Read by OpenMP as torch is loaded. Threads that wait by spinning take the cores from each other
# wherever anything else runs: 10 networks trained 20 times slower on two busy cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
