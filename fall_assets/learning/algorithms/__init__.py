"""The algorithms that can be tried: each learns from labelled segments and scores others.

What belongs here: one module per algorithm behind the interface in `base`, and their list. What
does not: folds, thresholds and events (`evaluate`), which settings are tried (`experiments`).

To add one: write its settings, a frozen dataclass whose fields are plain values, and its class with
`fit` and `load`; name it in `registry`.
"""
