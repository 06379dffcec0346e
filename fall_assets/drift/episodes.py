"""Episodes: what happened to some cameras, from its first day to its last. Pure.

Here: putting days of the drift report together, so that a cause that flickers, or comes to a ward
camera by camera, is one thing with one name. Not here: judging a day (`report.py`), what is done
about it (`answers.py`), reading and writing (`pipeline.answers`).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta


@dataclass(frozen=True)
class ReportedDay:
    """A day that has a drift report, and the cameras that were judged on it.

    `cameras` is None where all were. A camera that was off is not judged: its silence tells
    nothing.
    """

    day: date
    model_version: str
    cameras: frozenset[str] | None = None


@dataclass(frozen=True)
class Sighting:
    """A cause that the report names of a camera's day (a row of `drift_causes`)."""

    day: date
    model_version: str
    camera_id: str
    cause: str
    since: date
    confirmed: bool
    words: str = ""


@dataclass(frozen=True)
class Note:
    """An episode as it was last written down; it keeps its id whatever the reports say later.

    Attributes:
        episode_id: its id.
        cause: what happened.
        cameras: to which.
        since: its first day.
        until: its last day; None while it lasts.
        model_version: the champion at its beginning.
        learned: the day on which learning from it began; cameras that come later are another
            episode, as nothing was learned of them.
    """

    episode_id: str
    cause: str
    cameras: frozenset[str]
    since: date
    until: date | None
    model_version: str
    learned: date | None = None


@dataclass(frozen=True)
class Episode:
    """One cause on one or several cameras since some day.

    Attributes:
        id: stays the same however many days and cameras are added.
        cause: one of `DRIFT_CAUSES`.
        cameras: sorted.
        since: its first day.
        until: its last day; None while it is open.
        model_version: the champion at its beginning.
        standing: whether the newest judged day of one of its cameras confirms it.
        days_by: by model version, on how many days that version's report confirmed it.
        words: what changed, of the newest sighting.
    """

    id: str
    cause: str
    cameras: tuple[str, ...]
    since: date
    until: date | None
    model_version: str
    standing: bool
    days_by: Mapping[str, int] = field(default_factory=dict)
    words: str = ""

    @property
    def open(self) -> bool:
        """Whether it lasts."""
        return self.until is None


def episodes(
    days: Iterable[ReportedDay],
    sightings: Iterable[Sighting],
    notes: Iterable[Note] = (),
    *,
    clear_days: int = 2,
    join_days: int = 5,
    lost_days: int = 14,
) -> list[Episode]:
    """Put sightings together to episodes, by first day, cause and id.

    A confirmed sighting opens a stretch of its camera and cause. Further sightings, confirmed or
    not, keep it open; it ends when the camera was judged on `clear_days` days in a row without
    one. Stretches of one cause are one episode where each begins at most `join_days` after the one
    before.

    The days may be the newest ones only, in any order; what began before them is known from
    `notes`. A noted episode goes on with the first stretch of its cameras that reaches its first
    day, or, where it was noted as over, with those that were confirmed before its end. So late
    reports of old days may lengthen or end an episode and never give it another id.

    Args:
        days: reported days; of a day given twice the last counts.
        sightings: of these days.
        notes: episodes that were written down.
        clear_days: see above; at least 1.
        join_days: see above.
        lost_days: an episode whose cameras were not judged on the newest so many days of the site
            is not standing, and over if they were not judged at all.
    """
    by_day = {one.day: one for one in sorted(days, key=lambda one: one.day)}
    newest = max(by_day, default=None)
    stretches = _stretches(by_day, sightings, clear_days)
    noted = sorted(notes, key=lambda note: (note.since, note.episode_id))
    found = [_Growing(note) for note in noted]
    left: list[_Stretch] = []
    for stretch in stretches:
        owner = next((one for one in found if one.holds(stretch)), None)
        if owner is None:
            left.append(stretch)
        else:
            owner.take(stretch)
    for stretch in sorted(left, key=lambda one: (one.since, one.first, one.camera_id)):
        owner = next((one for one in found if one.is_joined_by(stretch, join_days)), None)
        if owner is None:
            owner = _Growing(None)
            found.append(owner)
        owner.take(stretch)
    made = [one.episode(by_day, newest, clear_days, lost_days) for one in found]
    return sorted(made, key=lambda one: (one.since, one.cause, one.id))


@dataclass(frozen=True)
class _Stretch:
    """Days of one camera with one cause; `cleared` says that enough clean days followed."""

    cause: str
    camera_id: str
    since: date
    first: date
    last: date
    cleared: bool
    standing: date | None
    """The newest judged day, where it confirms the cause."""
    confirmed: tuple[tuple[date, str], ...]
    words: str


class _Growing:
    """An episode while stretches are added."""

    def __init__(self, note: Note | None) -> None:
        self.note = note
        self.stretches: list[_Stretch] = []

    @property
    def cause(self) -> str:
        return self.note.cause if self.note else self.stretches[0].cause

    @property
    def cameras(self) -> set[str]:
        known = set(self.note.cameras) if self.note else set()
        return known | {one.camera_id for one in self.stretches}

    @property
    def since(self) -> date:
        return self.note.since if self.note else min(one.since for one in self.stretches)

    @property
    def until(self) -> date | None:
        """The last day of what is there; None while a stretch is open."""
        if any(not one.cleared for one in self.stretches):
            return None
        return max((one.last for one in self.stretches), default=self.since)

    def take(self, stretch: _Stretch) -> None:
        self.stretches.append(stretch)

    def holds(self, stretch: _Stretch) -> bool:
        """Whether the stretch is one that was noted."""
        note = self.note
        if (
            note is None
            or stretch.cause != note.cause
            or stretch.camera_id not in note.cameras
            or stretch.last < note.since
        ):
            return False
        if note.until is not None:
            return stretch.confirmed[0][0] <= note.until
        return all(one.camera_id != stretch.camera_id for one in self.stretches)

    def is_joined_by(self, stretch: _Stretch, join_days: int) -> bool:
        if stretch.cause != self.cause:
            return False
        learned = self.note.learned if self.note else None
        if learned is not None and stretch.since > learned:
            return False
        until = self.until
        if until is not None and stretch.confirmed[0][0] > until:
            return False
        # What flares up again while it lasts is part of it, however long it lasts.
        if stretch.camera_id in self.cameras and stretch.since >= self.since:
            return True
        near = timedelta(days=join_days)
        newest = max((one.since for one in self.stretches), default=self.since)
        return self.since - near <= stretch.since <= max(newest, self.since) + near

    def episode(
        self,
        by_day: Mapping[date, ReportedDay],
        newest: date | None,
        clear_days: int,
        lost_days: int,
    ) -> Episode:
        recent = date.min if newest is None else newest - timedelta(days=lost_days)
        until = self.until
        if not self.stretches:
            until = self._without_a_trace(by_day, clear_days, lost_days)
        days = {seen for one in self.stretches for seen in one.confirmed}
        words = max(self.stretches, key=lambda one: one.last).words if self.stretches else ""
        first = min((one for one in self.stretches), key=lambda one: one.first, default=None)
        version = self.note.model_version if self.note else ""
        if not version and first is not None:
            version = first.confirmed[0][1]
        return Episode(
            self.note.episode_id if self.note else self._new_id(),
            self.cause,
            tuple(sorted(self.cameras)),
            self.since,
            until,
            version,
            until is None and any(one.standing and one.standing > recent for one in self.stretches),
            dict(Counter(version for _, version in days)),
            words,
        )

    def _without_a_trace(
        self, by_day: Mapping[date, ReportedDay], clear_days: int, lost_days: int
    ) -> date | None:
        """The end of a noted episode that no day tells of any more."""
        if self.note is None or self.note.until is not None:
            return self.note.until if self.note else None
        after = [day for day in by_day.values() if day.day >= self.note.since]
        judged = [day for day in after if day.cameras is None or day.cameras & self.note.cameras]
        if len(judged) < clear_days and len(after) < lost_days:
            return None
        return self.note.since

    def _new_id(self) -> str:
        """From the cause, the first day and the cameras that it began with."""
        since = self.since
        began = sorted({one.camera_id for one in self.stretches if one.since == since})
        text = " ".join([self.cause, since.isoformat(), *began])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def _stretches(
    by_day: Mapping[date, ReportedDay], sightings: Iterable[Sighting], clear_days: int
) -> list[_Stretch]:
    """Stretches with at least one confirmed sighting, by cause, camera and day."""
    seen: dict[tuple[str, str], dict[date, Sighting]] = defaultdict(dict)
    for one in sightings:
        reported = by_day.get(one.day)
        if reported is not None and reported.model_version == one.model_version:
            seen[one.cause, one.camera_id][one.day] = one
    found: list[_Stretch] = []
    for (_, camera), own in sorted(seen.items()):
        judged = [
            day.day
            for day in by_day.values()
            if day.day in own or day.cameras is None or camera in day.cameras
        ]
        current: list[Sighting] = []
        quiet, after = 0, date.min
        for day in judged:
            if day in own:
                current.append(own[day])
                quiet = 0
                continue
            quiet += 1
            if current and quiet >= clear_days:
                found += _stretch(current, True, after, None)
                after, current = current[-1].day, []
        newest = own.get(judged[-1])
        standing = newest.day if newest is not None and newest.confirmed else None
        found += _stretch(current, False, after, standing)
    return found


def _stretch(
    seen: Sequence[Sighting], cleared: bool, after: date, standing: date | None
) -> list[_Stretch]:
    """The stretch of some sightings in a row; none where none of them is confirmed."""
    confirmed = [one for one in seen if one.confirmed]
    if not confirmed:
        return []
    first = confirmed[0]
    # What the report says began before the clean days that ended the stretch before did not.
    began = min(min(one.since for one in confirmed), first.day)
    since = began if began > after else seen[0].day
    return [
        _Stretch(
            first.cause,
            first.camera_id,
            since,
            seen[0].day,
            seen[-1].day,
            cleared,
            standing,
            tuple((one.day, one.model_version) for one in confirmed),
            confirmed[-1].words,
        )
    ]
