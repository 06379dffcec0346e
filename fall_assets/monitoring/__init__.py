"""The infrastructure: cameras, disk, runs, what is wrong now, who is told, and what is measured.

What belongs here: judging and wording, as plain functions over frames and times, and the metrics'
names. What does not: reading the lake (`pipeline.health`), asking Dagster (`resources.instance`),
and whether the hospital has changed (`drift`).
"""
