"""The taxonomy: which label each source's word stands for.

What belongs here: words. What does not: times (see `readers.py`). The labels themselves stand in
the schema registry. Whoever changes a mapping raises TAXONOMY_VERSION.

How the data sets' words are read:

- URFD says per frame whether a person is not lying, in between, or lying. In a fall, 'in between'
  is the descent and 'lying' what follows it; in daily life, 'in between' is sitting or lying down
  and stays `other`, since the data set does not say which.
- GMDCSA24's `Falling` runs on to the end of the clip. Its first DESCENT_S are the fall and the rest
  is lying after it: on the eight falls that were looked at, people lay 1.0 to 1.8 s after the start
  of the interval. What people do (reading, eating, ...) is `other`; it may overlap a posture.
- ASSIST-IoT's activities are one word for a whole clip, named after what the clip was recorded for;
  'sitting on a chair' therefore includes coming and going. Its 'lying still' clips are `lying`:
  they hold no fall.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from fall_assets.footage.datasets import SITE
from fall_assets.lake.registry import LABELS

TAXONOMY_VERSION = 1

DESCENT_S = 1.5
"""The longest that a fall's descent is taken to last where a source does not tell its end."""

FALLS_INCLUDE_LYING = frozenset({"gmdcsa24"})
"""Data sets whose falls run on to the end of the clip."""

_URFD = {
    "upright_or_other": "other",
    "adl_not_lying": "other",
    "adl_intermediate_pose": "other",
    "adl_lying": "lying",
    "falling": "fall",
    "not lying": "other",
    "in between": "other",
}
_GMDCSA24 = {
    "falling": "fall",
    "sleeping": "lying",
    "reading": "other",
    "writing": "other",
    "eating": "other",
    "drinking": "other",
    "exercising": "other",
    "exercise": "other",
    "talking": "other",
    "picking": "bending",
}
_ASSIST_IOT = {
    "upright": "standing",
    "falling": "fall",
    "lying_still": "lying",
    "adl:walking_slowly": "walking",
    "adl:walking_quickly": "walking",
    "adl:jogging_slowly": "walking",
    "adl:jogging_quickly": "walking",
    "adl:walking_stairs_slowly": "walking",
    "adl:walking_stairs_quickly": "walking",
    "adl:sitting_high_chair": "sitting",
    "adl:low_chair_sitting_slowly": "sitting",
    "adl:low_chair_sitting_quickly": "sitting_down",
    "adl:collapsing_onto_chair": "sitting_down",
    "adl:sitting_laying_down_slowly": "lying",
    "adl:sitting_laying_down_quickly": "lying",
    "adl:bending_at_knees": "bending",
    "adl:bending_wo_knees": "bending",
    "adl:stumbling": "other",
    "adl:jumping_reaching": "other",
    "adl:crawling": "other",
    "adl:multiple_jumps": "other",
    "adl:raising_hands": "standing",
}
_PEOPLE_WALKING = {"adl:people_walk_in_stand_leave": "walking"}

_OWN: Mapping[str, str] = {label: label for label in LABELS}

_WORDS: Mapping[str, Mapping[str, str]] = {
    SITE: _OWN,
    "urfd": {**_OWN, **_URFD},
    "gmdcsa24": {**_OWN, **_GMDCSA24},
    "assist_iot": {**_OWN, **_ASSIST_IOT},
    "people_walking": {**_OWN, **_PEOPLE_WALKING},
}


def to_label(dataset: str, word: str) -> str | None:
    """The label that a source's word stands for; None where it is not known.

    Case, spaces at the ends and a direction in brackets, as in 'Falling (BW)', do not matter.

    Args:
        dataset: the data set whose words are meant, or 'site' for the taxonomy's own.
        word: as it stands in the label file.
    """
    return _WORDS[dataset].get(_plain(word))


def nearest_word(dataset: str, word: str) -> str | None:
    """The known word that is most like an unknown one, for a message; None where none is."""
    near = difflib.get_close_matches(_plain(word), list(_WORDS[dataset]), n=1)
    return near[0] if near else None


def _plain(word: str) -> str:
    text = re.sub(r"\([^()]*\)\s*$", "", word.strip())
    return " ".join(text.lower().split())
