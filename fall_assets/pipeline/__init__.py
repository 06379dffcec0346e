"""The stages of the lifecycle, lake in and lake out, without Dagster.

One module per stage; each function reads its inputs from the lake, calls the domain packages and
writes its tables. The Dagster assets call these functions one to one, and so can a loop, a
notebook or another scheduler. What does not belong here: algorithms (they are in the domain
packages) and anything of Dagster.
"""
