"""Plain words for drift: causes, figures, facts and how sure one is.

What a ward technician reads, in the verdict, on the report's page and beside plots, comes from
here, so that one thing has one name everywhere. What does not belong here: deciding what happened
(`causes.py`) and laying out a page (`page.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from fall_assets.drift.days import SLOWLY, WARD


@dataclass(frozen=True)
class CauseWords:
    """What is said of a cause.

    Attributes:
        title: its name, as a heading or a table's cell.
        happened: what happened, to follow a list of cameras: "cameras a and b: <happened>". Without
            a capital and a full stop.
        meaning: what that does to the detector, as one or more sentences.
        to_do: what a technician can do, one sentence each, in this order.
    """

    title: str
    happened: str
    meaning: str
    to_do: tuple[str, ...]


@dataclass(frozen=True)
class FigureWords:
    """How a figure is called and shown.

    Attributes:
        name: in plain words, to follow "the" or "its"; also the label of a plot's axis.
        rose, fell: what is said of a rise and of a fall, as a clause with its own subject.
        unit: what follows the number, empty where it has none.
        scale: what the lake's value is multiplied with to be shown.
        digits: after the decimal point.
    """

    name: str
    rose: str
    fell: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 2

    def shown(self, value: float | None) -> str:
        """A value of the lake with its unit, as "42 %"; "unknown" where it is not a number."""
        if value is None or not math.isfinite(value):
            return "unknown"
        scaled = value * self.scale
        # A small number must not be shown as nothing.
        rounded = f"{scaled:.{self.digits}f}"
        if scaled and not float(rounded):
            rounded = f"{scaled:.1g}"
        return f"{rounded} {self.unit}" if self.unit else rounded

    @property
    def axis(self) -> str:
        """Label of an axis: the name and the unit."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


def _share(name: str, rose: str, fell: str, digits: int = 0) -> FigureWords:
    return FigureWords(name, rose, fell, "%", 100.0, digits)


WORDS: Mapping[str, CauseWords] = {
    "new_camera": CauseWords(
        "New camera",
        "the detector has never learned from this camera",
        "How well falls are found there is not known.",
        (
            "Check that its ward and room in the list of cameras are right.",
            "Answer its alerts with care: each answer tells how well falls are found there.",
        ),
    ),
    "resolution": CauseWords(
        "Other resolution",
        "the resolution of the picture has changed",
        "The picture has another number of pixels than those that the detector learned from.",
        (
            "If nobody meant to change it, set the recorder or the camera back.",
            "If it is meant, tell us: there is nothing else to do on the ward.",
        ),
    ),
    "codec": CauseWords(
        "Other video format",
        "the video is compressed in another format",
        "Another format blurs and blocks the picture in another way; often nothing is felt of it.",
        ("If nobody meant to change it, set the recorder back.",),
    ),
    "frame_rate": CauseWords(
        "Other frame rate",
        "the number of pictures per second has changed",
        "With few pictures per second a fall is short and may be missed.",
        (
            "Look whether the network or the recorder is overloaded.",
            "If nobody meant to change it, set the camera's frame rate back.",
        ),
    ),
    "camera_model": CauseWords(
        "Other camera model",
        "the camera was exchanged for another model",
        "Another model may see wider, sharper or in other colours.",
        (
            "Check that the new camera hangs where the old one did and looks the same way.",
            "If no camera was exchanged, check that the cables are not swapped.",
        ),
    ),
    "firmware": CauseWords(
        "Other firmware",
        "the camera runs another firmware",
        "Mostly nothing is felt of it; if the picture changed too, it is said separately.",
        ("Nothing, unless nobody knows of an update: then ask who has access to the camera.",),
    ),
    "clock": CauseWords(
        "Clock is wrong",
        "the camera's clock is off",
        "Alerts and video carry wrong times, so that a fall is looked for at the wrong moment.",
        ("Set the camera's clock, or have it take the time from the hospital's time server.",),
    ),
    "view_moved": CauseWords(
        "Camera was turned",
        "the camera was turned or knocked",
        "It looks elsewhere: parts of the room may be out of sight, and drawn zones are wrong.",
        (
            "Turn it back until the picture is as before.",
            "If it is meant to look there now, draw the zones of beds and doors again.",
        ),
    ),
    "room_changed": CauseWords(
        "Room was changed",
        "the room has changed (beds, furniture or walls), or the camera hangs elsewhere",
        "People lie, sit and walk elsewhere than where the detector learned it.",
        (
            "If beds were moved, draw their zones again.",
            "If nothing was moved, look whether something hangs or stands before the camera.",
        ),
    ),
    "lens_blurred": CauseWords(
        "Lens is blurred",
        "the lens looks dirty or out of focus",
        "People are seen less clearly, and falls may be missed.",
        (
            "Clean the lens or the dome with a soft cloth.",
            "If it is clean, focus the camera again.",
        ),
    ),
    "exposure": CauseWords(
        "Other light or colours",
        "light or colours of the picture have changed",
        "A lamp may have failed, or the camera's exposure or white balance was changed.",
        (
            "Look whether a lamp has failed or a curtain stays shut.",
            "If the light is as ever, set the camera's exposure and white balance back.",
        ),
    ),
    "night_mode": CauseWords(
        "Night mode",
        "the camera is in infrared night mode",
        "The picture has no colours and people look different.",
        (
            "If it is so by day as well, switch the camera's day and night mode to automatic.",
            "If night mode is meant, there is nothing to do on the ward.",
        ),
    ),
    "smaller_people": CauseWords(
        "Smaller people",
        "people are smaller than before, perhaps children",
        "The detector may not know how smaller people fall.",
        (
            "Tell us whether the ward cares for children now.",
            "If it does not, look whether the camera hangs higher or farther away.",
        ),
    ),
    "wheelchairs": CauseWords(
        "More wheelchairs",
        "more people move about sitting, perhaps in wheelchairs",
        "The detector may take a wheelchair's user for somebody who falls, or miss a fall out "
        "of it.",
        ("Tell us whether the ward uses more wheelchairs than before.",),
    ),
    "pose": CauseWords(
        "People look different",
        "people look or move differently than before",
        "Why is not clear from the figures alone.",
        ("Tell us what is new on the ward: other patients, other equipment, another routine.",),
    ),
    "picture": CauseWords(
        "Picture looks different",
        "the picture looks different than before",
        "Why is not clear from the figures alone.",
        ("Compare the two pictures, and look at the camera on site.",),
    ),
    "embedding": CauseWords(
        "Scenes look different",
        "what the camera sees looks different as a whole",
        "No single figure explains it.",
        ("Compare the two pictures, and tell us what is new in the room.",),
    ),
    "scores": CauseWords(
        "Detector answers differently",
        "the detector's scores or its number of alerts have changed",
        "Nothing in the picture explains it so far.",
        ("Tell us whether alerts of this camera have been right or wrong lately.",),
    ),
    "precision": CauseWords(
        "More false alarms",
        "fewer of its alerts are confirmed by staff than before",
        "The ward is called more often for nothing.",
        ("Go on answering alerts: your answers show it and mend it.",),
    ),
    "skew": CauseWords(
        "Box and platform disagree",
        "the box beside the camera computes other figures than the platform",
        "That is a fault of the software or of its settings, not of the room.",
        ("Nothing on the ward: the people who run the platform must look at it.",),
    ),
}
"""Words for every cause of `registry.DRIFT_CAUSES`."""

FIGURE_WORDS: Mapping[str, FigureWords] = {
    "brightness": _share("brightness", "the picture is brighter", "the picture is darker"),
    "contrast": _share(
        "contrast", "light and dark differ more", "light and dark differ less", digits=1
    ),
    "sharpness": FigureWords(
        "sharpness", "the picture is sharper", "the picture is less sharp", "‰", 1000.0, 1
    ),
    "noise": FigureWords(
        "picture noise", "the picture is grainier", "the picture is less grainy", "‰", 1000.0, 1
    ),
    "warmth": FigureWords(
        "warmth of colours", "colours are redder", "colours are bluer", "%", 100.0, 1
    ),
    "colour": _share("strength of colours", "colours are stronger", "colours are paler", digits=1),
    "dark_share": _share(
        "black part of the picture",
        "more of the picture is black",
        "less of the picture is black",
        digits=1,
    ),
    "bright_share": _share(
        "white part of the picture",
        "more of the picture is white",
        "less of the picture is white",
        digits=1,
    ),
    "motion_mean": _share(
        "moving part of the picture",
        "more of the picture moves",
        "less of the picture moves",
        digits=1,
    ),
    "gate_duty": _share(
        "share of time with movement", "there is more movement", "there is less movement"
    ),
    "people": FigureWords("people in view", "more people are in view", "fewer people are in view"),
    "keypoint_score": _share(
        "certainty of body points", "people are seen more clearly", "people are seen less clearly"
    ),
    "person_height": _share(
        "people's height in the picture", "people are larger", "people are smaller", digits=1
    ),
    "person_aspect": FigureWords(
        "people's height over width",
        "people are narrower or more upright",
        "people are wider or less upright",
    ),
    "person_speed": FigureWords(
        "people's speed", "people move faster", "people move more slowly", "heights/s"
    ),
    "person_x": _share(
        "people's place, from the left", "people are further right", "people are further left"
    ),
    "person_y": _share(
        "people's place, from the top", "people are lower down", "people are higher up"
    ),
    "lying": _share("share of people who lie", "more people lie", "fewer people lie"),
    "lying_x": _share(
        "where people lie, from the left", "people lie further right", "people lie further left"
    ),
    "lying_y": _share(
        "where people lie, from the top", "people lie lower down", "people lie higher up"
    ),
    "sitting": _share("share of people who sit", "more people sit", "fewer people sit"),
    "sitting_x": _share(
        "where people sit, from the left", "people sit further right", "people sit further left"
    ),
    "sitting_y": _share(
        "where people sit, from the top", "people sit lower down", "people sit higher up"
    ),
    "rolling": _share(
        "share of seated people who move along",
        "more people move along while they sit",
        "fewer people move along while they sit",
    ),
    "upright": _share(
        "share of people who are upright", "more people are upright", "fewer people are upright"
    ),
    "stature": _share(
        "people's height for where they stand, against the usual",
        "people are taller",
        "people are shorter",
    ),
    "score": FigureWords(
        "detector's mean score", "the scores are higher", "the scores are lower", digits=3
    ),
    "score_high": FigureWords(
        "detector's high scores", "the high scores are higher", "the high scores are lower"
    ),
    "alerts_per_hour": FigureWords(
        "alerts per hour", "there are more alerts", "there are fewer alerts"
    ),
}
"""Words for every figure of `drift.days`."""

FACT_WORDS: Mapping[str, FigureWords] = {
    "resolution": FigureWords("resolution", "it has more pixels", "it has fewer pixels", "px"),
    "codec": FigureWords("video format", "it is another", "it is another"),
    "frame_rate": FigureWords("pictures per second", "there are more", "there are fewer", digits=1),
    "camera_model": FigureWords("camera model", "it is another", "it is another"),
    "firmware": FigureWords("firmware", "it is another", "it is another"),
    "clock": FigureWords("clock's error", "it is ahead", "it is behind", "s", digits=1),
}
"""Words for every fact of `drift.days`."""

_OTHER_SIGNALS: Mapping[str, str] = {
    "scene": "the empty scene",
    "view": "the direction of view",
    "people_together": "people as a whole",
    "embedding": "the picture as a whole",
    "precision": "share of alerts that staff confirm",
    "skew": "box against platform",
    "camera": "the camera itself",
    "new_camera": "the camera itself",
}

_PARTS: Mapping[str, str] = {"slowly": "summed over days", "box": "box against platform"}

KIND_WORDS: Mapping[str, str] = {
    "exact": "exact fact",
    "quality": "picture",
    "pose": "people",
    "score": "detector",
    "scene": "empty scene",
    "embedding": "picture as a whole",
    "online": "daily stream",
    "precision": "staff's answers",
    "skew": "box against platform",
    "new_camera": "new camera",
}
"""Words for every kind of signal, of `registry.DRIFT_SIGNALS`."""

ANSWER_WORDS: Mapping[str, str] = {
    "annotate": "Note the change",
    "normalise": "Bring the picture to what the detector learned",
    "labels": "Ask for labels",
    "retrain": "Learn again",
    "evaluate": "Prove the result",
    "rollout": "Hand it to the cameras",
}
"""Words for every answer, of `registry.DRIFT_ANSWERS`."""

STATE_WORDS: Mapping[str, str] = {
    "asked": "waits for a person",
    "approved": "approved",
    "refused": "refused",
    "started": "under way",
    "done": "done",
    "failed": "failed",
    "skipped": "not needed",
}
"""Words for every state of an answer, of `registry.DRIFT_ANSWER_STATES`."""


def figure_of(signal: str) -> str:
    """The figure or fact of which a signal speaks: that of a daily stream is its figure's."""
    return signal.removesuffix(f":{SLOWLY}").removesuffix(f":{WARD}")


def signal_in_words(signal: str) -> str:
    """Name of a signal in plain words; of one that nobody knows, its own name with spaces.

    Names may have a part after a colon: a daily stream, the box's side, a feature set.
    """
    name, _, part = signal.partition(":")
    known = FIGURE_WORDS.get(name) or FACT_WORDS.get(name)
    said = known.name if known else _OTHER_SIGNALS.get(name, name.replace("_", " "))
    return f"{said}, {_PARTS[part]}" if part in _PARTS else said


def p_in_words(p_value: float) -> str:
    """A p-value as it is written: "p = 0.012", "p < 0.0001", "p > 0.99"."""
    if p_value < 0.0001:
        return "p < 0.0001"
    if p_value > 0.99:
        return "p > 0.99"
    return f"p = {p_value:.2g}" if p_value >= 0.01 else f"p = {p_value:.1g}"


def sure_in_words(p_value: float | None, confirmed: bool) -> str:
    """How sure a cause is; `p_value` is the smallest of its signals, adjusted; null where exact.

    With a p-value the words go before it, without one they stand alone. The thresholds are words
    only: what counts is decided by the budget for false alarms.
    """
    if not confirmed:
        return "not sure yet"
    if p_value is None:
        return "certain"
    if p_value < 0.001:
        return "very sure"
    return "sure" if p_value < 0.01 else "rather sure"


def listed(names: Sequence[str]) -> str:
    """Names as a list in a sentence: "a", "a and b", "a, b and c"; "none" of none."""
    if len(names) < 2:
        return names[0] if names else "none"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def cameras_in_words(cameras: Sequence[str], limit: int = 5) -> str:
    """Cameras as the subject of a sentence: "camera a", "cameras a, b and 7 others"."""
    if len(cameras) > limit:
        shown = [*cameras[: limit - 1], f"{len(cameras) - limit + 1} others"]
        return f"cameras {listed(shown)}"
    return f"{'camera' if len(cameras) == 1 else 'cameras'} {listed(cameras)}"


def day_in_words(day: date) -> str:
    """A day as people write it: "3 March 2026". The server's language does not matter."""
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


def capital(sentence: str) -> str:
    """A fragment as the beginning of a sentence; names in it stay as they are."""
    return sentence[:1].upper() + sentence[1:]


def short_day(day: date) -> str:
    """A day where there is little room: "3 Mar"."""
    return f"{day.day} {_MONTHS[day.month - 1][:3]}"


def plural(number: int, what: str) -> str:
    """A number of things, as '1 camera' or '2 cameras'."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
