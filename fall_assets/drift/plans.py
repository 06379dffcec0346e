"""Which answers a cause of drift takes, and why. Pure data.

Here: one plan for every cause of `DRIFT_CAUSES`. Not here: when an answer's turn comes
(`answers.py`), and the words of a cause (`words.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from fall_assets.lake.registry import DRIFT_ANSWERS

Answer = Literal["annotate", "normalise", "labels", "retrain", "evaluate", "rollout"]

ORDER: Final = cast("tuple[Answer, ...]", DRIFT_ANSWERS)
ASKABLE: Final[tuple[Answer, ...]] = ("labels", "retrain", "rollout")
"""What costs people's time or changes what serves; these may wait for a person."""


@dataclass(frozen=True)
class Plan:
    """Which answers a cause takes.

    Attributes:
        answers: taken, in order; those of `skipped` are written down as skipped with the reason.
        skipped: why an answer on the way is left out.
        why: why these.
        technician: what a person at the camera is asked to do.
        patient: whether that is waited for before anything is learned.
    """

    answers: tuple[Answer, ...]
    why: str
    skipped: Mapping[Answer, str] = field(default_factory=dict)
    technician: str = ""
    patient: bool = False


_TOLD: Final = ("annotate",)
_LEARN: Final = ("annotate", "labels", "retrain", "evaluate", "rollout")
_ALL: Final = ORDER


def _learn(why: str, not_normalised: str, technician: str = "", patient: bool = False) -> Plan:
    return Plan(_LEARN, why, {"normalise": not_normalised}, technician, patient)


_SAME_SIZE = "resampling changes neither light nor place nor people"

PLANS: Final[Mapping[str, Plan]] = {
    "codec": Plan(_TOLD, "another codec gives the same pictures; if not, the picture is told of"),
    "firmware": Plan(_TOLD, "firmware by itself changes nothing that the detector sees"),
    "camera_model": Plan(_TOLD, "what another camera changes in the picture is told of by itself"),
    "clock": Plan(
        _TOLD,
        "a clock that is off moves times, not pictures",
        technician="Set the camera's clock, or point it at the hospital's time server.",
    ),
    "skew": Plan(
        _TOLD,
        "box and platform compute different figures of the same picture: learning would learn it",
        technician="Compare the box's package with the platform's (`fall-assets edge`).",
    ),
    "resolution": Plan(_ALL, "pictures are scaled to the trained size, which may be enough"),
    "frame_rate": Plan(_ALL, "frames are taken at the trained rate, which may be enough"),
    "view_moved": _learn(
        "a camera that was knocked is turned back sooner than it is learned",
        "resampling does not turn a camera back",
        "Turn the camera back to its old view, or say that the new one is meant.",
        patient=True,
    ),
    "lens_blurred": _learn(
        "a lens is cleaned sooner than it is learned",
        "resampling does not sharpen",
        "Clean the lens and look at its focus.",
        patient=True,
    ),
    "precision": _learn(
        "staff say that more alarms are false than before",
        "resampling does not tell false alarms from falls",
        "Look at the newest alarms of the ward: is there a cause that can be put away?",
        patient=True,
    ),
    "room_changed": _learn("the room is meant to be so", _SAME_SIZE),
    "exposure": _learn(
        "the light is as it is, or the camera takes it otherwise",
        _SAME_SIZE,
        "Look whether exposure and white balance of the camera were changed by mistake.",
    ),
    "night_mode": _learn("infrared pictures are another kind of picture", _SAME_SIZE),
    "smaller_people": _learn("who is cared for has changed", _SAME_SIZE),
    "wheelchairs": _learn("how people move has changed", _SAME_SIZE),
    "pose": _learn("what people do, or how they are seen, has changed", _SAME_SIZE),
    "picture": _learn("the picture has changed", _SAME_SIZE),
    "embedding": _learn("what is seen has changed", _SAME_SIZE),
    "scores": _learn("the detector judges otherwise than before", _SAME_SIZE),
    "new_camera": _learn(
        "nothing was learned of this camera",
        "there is nothing before it to resample to",
    ),
}
"""Every cause of `DRIFT_CAUSES`, with what is done about it and why."""
