"""Features: what one decoding pass over a segment yields, per window and per person.

What belongs here: decoding, sampling, quality and motion figures, pose estimation, tracking, and
the spreading of that work over processes. What does not: taking files in (`footage/`), writing
tables (`lake/`), and anything learned from the features (`learning/`).

Importing this package brings nothing; `extract` brings PyAV, and the pose network's runtime is
imported when the first network is loaded.
"""
