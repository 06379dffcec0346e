"""Who says what of whom, when: several annotators' intervals laid over each other.

What belongs here: matching the people that annotators speak of, and cutting a segment's time at
every boundary. What does not: deciding who is right (`resolution.py`) and measuring how far they
agree (`agreement.py`).

An annotator's word at a moment is the posture that they state; where they state none, it is
`other`; where they state nothing, they are silent, which is not a vote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Row = Mapping[str, Any]
"""A row of the table `annotations`; `annotator`, where null, is the source's word."""


@dataclass(frozen=True)
class Word:
    """What one annotator says at a moment: rows by their number.

    Attributes:
        label: the posture, or 'other'.
        rows: the rows that say so.
        also: rows of 'other' beside a posture.
    """

    label: str
    rows: tuple[int, ...]
    also: tuple[int, ...] = ()


@dataclass(frozen=True)
class Stretch:
    """A stretch of one segment and person on which nobody starts or stops anything."""

    start_s: float
    end_s: float
    said: Mapping[str, Word]


def annotator_of(row: Row) -> str:
    """Who says so; the source's word where nobody is told."""
    return str(row["annotator"] or row["source"])


def people(rows: Sequence[Row]) -> list[str]:
    """Whom each row of one segment is about: the same text for the same person.

    A subject's name means the same person whoever says it. Whom an annotator does not name (a
    track of a tool, or nothing told at all) is matched with one of each other annotator's people:
    first where two share the same labels for the longest time, then where one falls, then where
    they overlap the longest. Two people of one annotator, and two names, are never one person; who
    overlaps nobody is a person of their own.

    Args:
        rows: of one segment; within one annotator they do not contradict each other.
    """
    whose: dict[_Person, list[int]] = {}
    for number, row in enumerate(rows):
        whose.setdefault(_person(row), []).append(number)
    known = sorted(whose, key=str)
    pairs = sorted(
        (likeness, str(one), str(other), one, other)
        for i, one in enumerate(known)
        for other in known[i + 1 :]
        if one.annotator != other.annotator
        and not (one.subject and other.subject)
        and (likeness := _likeness(rows, whose[one], whose[other]))[2] < 0
    )
    groups = {person: {person} for person in known}

    def join(one: _Person, other: _Person) -> None:
        mine, theirs = groups[one], groups[other]
        speakers = {x.annotator for x in mine} & {x.annotator for x in theirs}
        names = {x.subject for x in mine | theirs if x.subject}
        same_name = bool(one.subject) and one.subject == other.subject
        if mine is not theirs and (same_name or (not speakers and len(names) < 2)):
            mine |= theirs
            for person in theirs:
                groups[person] = mine

    for i, one in enumerate(known):
        for other in known[i + 1 :]:
            if one.subject and one.subject == other.subject:
                join(one, other)
    for *_order, one, other in pairs:
        join(one, other)
    names = {person: min(map(str, group)) for person, group in groups.items()}
    return [names[_person(row)] for row in rows]


@dataclass(frozen=True, order=True)
class _Person:
    """Somebody of whom one annotator speaks."""

    subject: str
    annotator: str
    track: int

    def __str__(self) -> str:
        if self.subject:
            return f"subject {self.subject}"
        return f"track {self.track} of {self.annotator}"


def _person(row: Row) -> _Person:
    track = -1 if row["subject"] or row["track"] is None else row["track"]
    return _Person(row["subject"] or "", annotator_of(row), track)


def stretches(rows: Sequence[Row], numbers: Sequence[int]) -> Iterator[Stretch]:
    """The stretches of one person's rows, in order; times of which nobody speaks are left out.

    Args:
        rows: of one segment.
        numbers: which of them are about the person.
    """
    edges = sorted({rows[n][edge] for n in numbers for edge in ("start_s", "end_s")})
    waiting = sorted(numbers, key=lambda n: (-rows[n]["start_s"], -n))
    active: list[int] = []
    for start_s, end_s in pairwise(edges):
        active = [n for n in active if rows[n]["end_s"] > start_s]
        while waiting and rows[waiting[-1]]["start_s"] <= start_s:
            active.append(waiting.pop())
        postures: dict[str, list[int]] = {}
        others: dict[str, list[int]] = {}
        for n in active:
            said = others if rows[n]["label"] == "other" else postures
            said.setdefault(annotator_of(rows[n]), []).append(n)
        words: dict[str, Word] = {}
        for annotator in sorted(postures.keys() | others.keys()):
            also = tuple(others.get(annotator, ()))
            if annotator in postures:
                # Within one annotator postures do not overlap; where they do, the first counts.
                first = postures[annotator][0]
                words[annotator] = Word(rows[first]["label"], (first,), also)
            else:
                words[annotator] = Word("other", also)
        if words:
            yield Stretch(start_s, end_s, words)


def _likeness(
    rows: Sequence[Row], mine: Sequence[int], theirs: Sequence[int]
) -> tuple[float, bool, float]:
    """Seconds of shared labels, whether either falls, seconds of overlap; the best is the least."""
    shared = overlap = 0.0
    ordered = sorted(theirs, key=lambda n: float(rows[n]["start_s"]))
    active: list[int] = []
    following = 0
    for a in sorted(mine, key=lambda n: float(rows[n]["start_s"])):
        start_s, end_s = rows[a]["start_s"], rows[a]["end_s"]
        active = [b for b in active if rows[b]["end_s"] > start_s]
        while following < len(ordered) and rows[ordered[following]]["start_s"] < end_s:
            active.append(ordered[following])
            following += 1
        for b in active:
            both_s = min(end_s, rows[b]["end_s"]) - max(start_s, rows[b]["start_s"])
            if both_s > 0:
                overlap += both_s
                shared += both_s if rows[a]["label"] == rows[b]["label"] else 0.0
    falls = any(rows[n]["label"] == "fall" for n in (*mine, *theirs))
    return -shared, not falls, -overlap
