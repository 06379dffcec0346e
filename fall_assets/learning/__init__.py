"""Learning a detector from pose tracks, judging it in events, and keeping it in MLflow.

What belongs here: windows over tracks, the network and its training, events and their metrics,
cross-validation, plots, tracking. What does not: Dagster, reading video, writing the lake.
`network`, `training` and `detector` load torch; `tracking` loads mlflow and `plots` matplotlib
when they are used: nothing that definitions import may import these modules at module level.
"""
