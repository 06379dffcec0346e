"""Command groups of `fall-assets`, one module per subject.

What belongs here: arguments and printing. What does not: the work itself (`fall_assets.pipeline`).
`cli.py` mounts them; heavy imports stand inside the commands.
"""
