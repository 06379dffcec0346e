"""Labelling: label files become labels under one taxonomy, and labels become clips.

What belongs here: the taxonomy, the readers of label files, cutting clips and splitting them into
folds. What does not: footage itself (`footage/`) and learning (`learning/`).
"""

from __future__ import annotations
