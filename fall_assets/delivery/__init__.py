"""Delivery: from scores to what a ward sees, and from a candidate to what may serve.

Here: merging scores into alerts, what kind of fall each is, a still picture that shows no face,
sending alerts, and the gate that a candidate model must pass. Not here: computing scores
(`learning/`), the model registry (`learning.tracking`), or what the graph looks like (the Dagster
layer).
"""
