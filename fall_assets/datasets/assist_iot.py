"""ASSIST-IoT's laboratory: acted falls, lying still, and activities, one per clip.

Activities are one word for a whole clip, named after what the clip was recorded for; 'sitting on a
chair' therefore includes coming and going. 'Lying still' clips are `lying`: they hold no fall.
"""

from __future__ import annotations

import re
from datetime import date

from fall_assets.datasets.base import Dataset, DatasetCamera, Seen

_WORDS = {
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


# One frame shows two views, black bars and a clock. The larger view is used; it stands left in most
# files, right in some, and the staircase has other sizes (edges measured on 22 files of 1280x720:
# 854x640 left, from x = 427 right, 769x576 from x = 511 on the stairs).
_CAMERAS = {
    "lab": DatasetCamera("assist_iot-lab", "assist_iot-lab", "level", "0,0,0.6664,0.8889"),
    "lab-right": DatasetCamera(
        "assist_iot-lab-right", "assist_iot-lab", "level", "0.3336,0,1,0.8889"
    ),
    "stairs": DatasetCamera("assist_iot-stairs", "assist_iot-stairs", "corner", "0.4,0,1,0.8"),
}
_LAYOUTS = {
    "adl/06_walking_stairs_quickly": "stairs",
    "adl/11_sitting_laying_down_slowly": "lab-right",
    "adl/12_sitting_laying_down_quickly": "lab-right",
    "adl/19_raising_hands": "lab-right",
}
# Read off the frames: one person per recording day, told apart by the burnt-in date and clothes.
_SUBJECTS = {
    "adl/01_walking_slowly": "2023-02-06",
    "adl/02_walking_quickly": "2023-02-06",
    "adl/03_jogging_slowly": "2023-02-09",
    "adl/04_jogging_quickly": "2023-02-09",
    "adl/06_walking_stairs_quickly": "2023-02-01",
    "adl/07_sitting_high_chair": "2023-02-06",
    "adl/08_low_chair_sitting_slowly": "2023-02-09",
    "adl/09_low_chair_sitting_quickly": "2023-02-09",
    "adl/10_collapsing_onto_chair": "2023-02-09",
    "adl/11_sitting_laying_down_slowly": "2023-02-07",
    "adl/12_sitting_laying_down_quickly": "2023-02-07",
    "adl/13_bending_at_knees": "2023-02-06",
    "adl/14_bending_wo_knees": "2023-02-06",
    "adl/15_stumbling": "2023-02-06",
    "adl/16_jumping_reaching": "2023-02-09",
    "adl/17_crawling": "2023-02-06",
    "adl/18_multiple_jumps": "2023-02-09",
    "adl/19_raising_hands": "2023-02-07",
    "fall/05_vertical_fall_faint": "2023-02-09",
    "fall/07_fall_to_knees_forward": "2023-02-06",
    "imm/01_imm_back": "2023-02-06",
    "imm/02_imm_stomach": "2023-02-06",
}


def _read_path(path: str) -> Seen | None:
    match = re.search(r"(?:^|/)(adl|fall|imm)/([^/]+)\.\w+$", path)
    if match is None:
        return None
    kind, name = match.groups()
    key = f"{kind}/{name}"
    return Seen(
        _CAMERAS[_LAYOUTS.get(key, "lab")],
        f"{kind}-{name}",
        _SUBJECTS.get(key),
    )


DATASET = Dataset("assist_iot", date(2024, 1, 2), _read_path, _WORDS)
