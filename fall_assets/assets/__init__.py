"""The assets, one module per stage. Each reads, calls one function of `pipeline`, and reports.

No algorithms here. Names are plain nouns that a data scientist can guess from the graph.
"""
