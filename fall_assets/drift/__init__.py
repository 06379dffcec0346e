"""Drift: does today's footage still look like what the champion learned from?

Here: what is ordinary, the tests, the day's verdict in words, its page and plots, and what is to
be done about it. Not here: computing figures (`features/`, `pipeline.profiles`), starting runs (the
Dagster layer), or judging the model itself (`learning/`, `delivery.gate`).

`tests` is the only module that touches alibi-detect. Its licence, the Business Source License 1.1,
asks for an agreement with its maker before production use; everything else works without it.
"""
