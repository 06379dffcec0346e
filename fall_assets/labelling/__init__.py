"""Labelling: label files become labels under one taxonomy, and labels become clips.

What belongs here: the taxonomy, the readers of label files, cutting clips and splitting them into
folds. What does not: footage itself (`footage/`) and learning (`learning/`).
"""

from __future__ import annotations

from fall_assets.labelling.taxonomy import TAXONOMY_VERSION

__all__ = ["TAXONOMY_VERSION"]
