"""Measurements that are too slow for the tests: `python -m benchmarks.NAME`.

Each prints a table, then one last line `NAME: value (goal …)`, and ends with status 0 only where
the goal holds. Speed is a ratio to a peer in the same run, because machines are noisy.
"""
