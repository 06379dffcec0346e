"""What happened to a camera: the most likely name of what its signals show together.

Here: the rules, in their order. Not here: the tests (`report.py`), words for people (`words.py`).

Exact facts name themselves, and what follows from them on that camera is not told as a cause of its
own. Otherwise the picture is asked first, from the change that explains most of the others to the
one that explains least: a camera that was turned sees another room, another light and other places
of people; a lens that got dirty changes what the pose network sees. People are asked last: only
what the picture does not explain is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fall_assets.drift.days import FACTS, POSE_FIGURES, QUALITY_FIGURES, SCORE_FIGURES

EXACT = ("new_camera", *FACTS)
"""Causes that are read off and need no statistics."""

GREY, PALER = 0.04, 0.6
"""A picture whose pixels lie closer to grey than `GREY`, and than this share of what they did, has
lost its colour: an infrared camera's. Noise in its chroma planes keeps it from 0."""

TURNED_DEG, SHIFTED = 3.0, 0.05
"""A view that turned or shifted (share of the picture) by less is not called moved."""

_AS_BEFORE = 0.8

_LIGHT = ("brightness", "contrast", "warmth", "colour", "dark_share", "bright_share")
_PLACES = ("person_x", "person_y", "lying_x", "lying_y", "sitting_x", "sitting_y")


@dataclass(frozen=True)
class Evidence:
    """What one signal of a camera says.

    Attributes:
        signal: name of the figure or fact.
        kind: one of `lake.registry.DRIFT_SIGNALS`.
        before, after: values; nan where they are no numbers.
        effect: the change over what is just felt; None where nothing is felt of it.
        drifted: large and certain.
        likely: large, and p below 0.01 without any correction: it may speak for a cause that is
            certain otherwise.
        gradual: found as a sum of days, not on one day.
    """

    signal: str
    kind: str
    before: float
    after: float
    effect: float | None
    drifted: bool
    likely: bool = False
    gradual: bool = False

    @property
    def rose(self) -> bool:
        """Whether it grew."""
        return self.after > self.before

    @property
    def size(self) -> float:
        """Its effect; 0 where there is none."""
        return self.effect or 0.0


@dataclass(frozen=True)
class Turn:
    """What aligning today's scene with an ordinary one says: degrees and shares of the picture."""

    turned_deg: float
    shift_x: float
    shift_y: float
    explained: bool

    @property
    def is_moved(self) -> bool:
        """Whether one turn or shift makes the two scenes alike, and is large enough to tell of."""
        far = max(abs(self.shift_x), abs(self.shift_y)) >= SHIFTED
        return self.explained and (abs(self.turned_deg) >= TURNED_DEG or far)


@dataclass(frozen=True)
class Cause:
    """A name, and the signals that speak for it, the strongest first."""

    name: str
    signals: tuple[str, ...]
    exact: bool = False


def causes_of(evidence: Iterable[Evidence], turn: Turn | None = None) -> list[Cause]:
    """The causes of one camera's day; empty where nothing drifted.

    `turn` is what aligning the scenes gave, None where nobody aligned them.
    """
    seen = _Seen(evidence)
    if any(one.kind == "new_camera" for one in seen.certain):
        return [Cause("new_camera", ("camera",), exact=True)]
    facts = [Cause(name, (name,), exact=True) for name in FACTS if seen.is_certain(name)]
    told = [
        Cause(one.kind, (one.signal,)) for one in seen.certain if one.kind in ("precision", "skew")
    ]
    # Another clock, model, firmware or codec does not by itself explain what is seen.
    if any(cause.name in ("resolution", "frame_rate") for cause in facts):
        return [*facts, *told]
    return [*facts, *(_of_the_picture(seen, turn) or _of_the_rest(seen)), *told]


class _Seen:
    """A camera's signals; of one that speaks twice, the stronger."""

    def __init__(self, evidence: Iterable[Evidence]) -> None:
        self._by_name: dict[str, Evidence] = {}
        for one in evidence:
            known = self._by_name.get(one.signal)
            if known is None or (one.drifted, one.size) > (known.drifted, known.size):
                self._by_name[one.signal] = one
        self.certain = sorted(
            (one for one in self._by_name.values() if one.drifted), key=lambda one: -one.size
        )

    def is_certain(self, *names: str) -> bool:
        return any(one.signal in names for one in self.certain)

    def felt(self, *figures: str, rose: bool | None = None) -> list[Evidence]:
        """Of these, what is certain or at least likely, in that direction; strongest first."""
        found = [
            one
            for figure in figures
            if (one := self._by_name.get(figure)) is not None
            and (one.drifted or one.likely)
            and rose in (None, one.rose)
        ]
        return sorted(found, key=lambda one: -one.size)

    def went_on(self, figure: str) -> bool:
        """Whether a figure is known, and did not fall by much."""
        known = self._by_name.get(figure)
        return known is not None and known.after >= _AS_BEFORE * known.before


def _cause(name: str, *parts: Iterable[Evidence]) -> Cause:
    return Cause(name, tuple(dict.fromkeys(one.signal for part in parts for one in part)))


def _of_the_picture(seen: _Seen, turn: Turn | None) -> list[Cause]:
    """The one change of the picture that explains what people look like as well."""
    scene = [one for one in seen.certain if one.signal == "scene"]
    if scene and turn is not None and turn.is_moved:
        return [_cause("view_moved", scene, seen.felt(*_PLACES))]
    paler = [
        one
        for one in seen.felt("colour", rose=False)
        if one.after < GREY and one.after < PALER * one.before
    ]
    if paler and seen.is_certain(*QUALITY_FIGURES):
        return [_cause("night_mode", paler, seen.felt("noise", "brightness", "contrast"))]
    blurred = seen.felt("sharpness", rose=False)
    light = seen.felt(*_LIGHT)
    # A blurred picture has less contrast too.
    other = max((one.size for one in light if one.signal != "contrast"), default=0.0)
    if blurred and blurred[0].drifted and blurred[0].size > other:
        return [_cause("lens_blurred", blurred, seen.felt("contrast", "keypoint_score"))]
    if scene:
        return [_cause("room_changed", scene, seen.felt(*_PLACES), light)]
    return []


def _of_the_rest(seen: _Seen) -> list[Cause]:
    """Light and people may change together; scores and embeddings speak where nothing else does."""
    found = []
    light = seen.felt(*_LIGHT)
    if seen.is_certain(*_LIGHT):
        found.append(_cause("exposure", light))
    elif seen.is_certain(*QUALITY_FIGURES):
        own = [one for one in seen.certain if one.signal in QUALITY_FIGURES]
        found.append(_cause("picture", own))
    people = _of_people(seen)
    # Poor light alone makes key points uncertain and people hard to see.
    if people is not None and not (found and people.name == "pose"):
        found.append(people)
    if not found:
        for kind, name in (("embedding", "embedding"), ("score", "scores")):
            own = [one for one in seen.certain if one.kind == kind]
            if own:
                return [_cause(name, own)]
    return found


def _of_people(seen: _Seen) -> Cause | None:
    """How tall those are who stand, then how people move along, then anything else of them."""
    own = [one for one in seen.certain if one.signal in POSE_FIGURES or one.kind == "pose"]
    if not own:
        return None
    shorter = seen.felt("stature", rose=False)
    if shorter:
        return _cause("smaller_people", shorter, seen.felt("person_height", rose=False), own)
    rolling = seen.felt("rolling", rose=True)
    sitting = seen.felt("sitting", rose=True)
    lower = seen.felt("upright", rose=False)
    wider = seen.felt("person_aspect", rose=False)
    # Who sits in a chair stays there: a ward that sits and moves as before does so on wheels.
    if rolling or (sitting and wider) or (lower and (wider or seen.went_on("person_speed"))):
        return _cause("wheelchairs", rolling, lower, sitting, own)
    smaller = seen.felt("person_height", rose=False)
    if smaller and not sitting and not lower:
        return _cause("smaller_people", smaller, own)
    return _cause("pose", own)


def group_of(signal: str) -> Literal["quality", "pose", "score"]:
    """The kind of signal that tests a figure."""
    if signal in QUALITY_FIGURES:
        return "quality"
    if signal in SCORE_FIGURES:
        return "score"
    return "pose"
