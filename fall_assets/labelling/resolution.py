"""Where annotators differ: what holds by the site's rule, and what is written down of it.

What belongs here: the rules. What does not: contradictions of one annotator with themselves
(`readers.py`) and figures of agreement (`agreement.py`).

Annotators differ on a stretch where they state different postures of one person, or where one
states a fall or lying after it and another only `other`: people read while they sit, but not while
they fall. Silence is not a vote. The rules:

- 'priority': the most trusted source is believed (SOURCES_BY_TRUST), among equals the newest
  statement; equals of the same age leave it undecided,
- 'majority': what more annotators say than anything else; a tie leaves it undecided,
- 'unanimous': every difference is left undecided.

On an undecided stretch no posture holds. Nothing is dropped silently: every statement stays in
`annotations` with what became of it, every difference in `label_conflicts`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl

from fall_assets.errors import PermanentFailureError
from fall_assets.labelling.stretches import Row, Stretch, Word, annotator_of, people, stretches
from fall_assets.lake.registry import LABEL_SOURCES, RESOLUTION_RULES, table

SOURCES_BY_TRUST = ("reviewer", "staff", "dataset", "by_eye", "simulated", "auto")

_GRAVE = ("fall", "lying_after_fall")
_ONLY, _AGREED = "only", "agreed"
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Resolution:
    """What holds, and what became of every statement.

    Attributes:
        labels: rows of the table `labels`, ordered by day, camera, video and start. A statement
            that holds as it stands keeps its `label_id`.
        annotations: rows of the table `annotations` in the same order.
        conflicts: rows of the table `label_conflicts`.
        support: columns annotation_id and label_id: which statements say each label.
    """

    labels: pl.DataFrame
    annotations: pl.DataFrame
    conflicts: pl.DataFrame
    support: pl.DataFrame


def resolve(annotations: pl.DataFrame, rule: str = "priority") -> Resolution:
    """Decide what holds where annotators differ.

    Segments of which one annotator speaks pass as they are. Elsewhere a label reaches as far as
    statements that say it follow one another without a break; its details are those of its most
    trusted statement.

    Args:
        annotations: rows of the table `annotations` without `outcome` (ignored where present);
            `stated_utc`, where there is such a column, tells when each was stated. No annotator
            may contradict themselves.
        rule: one of RESOLUTION_RULES.

    Raises:
        PermanentFailureError: the rule is not known.
    """
    if rule not in RESOLUTION_RULES:
        raise PermanentFailureError(
            f"resolution {rule!r} is not known; there are: {', '.join(RESOLUTION_RULES)}"
        )
    told = _prepared(annotations)
    speakers = pl.col("annotator").n_unique().over("video_id")
    several = told.filter(speakers > 1)
    alone = told.filter(speakers == 1)
    judged = _Judged(rule)
    for _video, part in several.group_by("video_id", maintain_order=True):
        judged.take(part.to_dicts())
    labels = pl.concat(
        [
            alone.with_columns(resolution=pl.lit(_ONLY)).select(list(table("labels").schema)),
            pl.DataFrame(judged.labels, schema=table("labels").schema),
        ]
    )
    kept = pl.concat(
        [
            alone.with_columns(outcome=pl.lit("used")).select(list(table("annotations").schema)),
            pl.DataFrame(judged.annotations, schema=table("annotations").schema),
        ]
    )
    support = pl.concat(
        [
            alone.select(annotation_id="label_id", label_id="label_id"),
            pl.DataFrame(
                judged.support,
                schema={"annotation_id": pl.String(), "label_id": pl.String()},
                orient="row",
            ),
        ]
    )
    return Resolution(
        labels=_sorted(_joined(labels, kept, support)),
        annotations=_sorted(kept),
        conflicts=pl.DataFrame(judged.conflicts, schema=table("label_conflicts").schema),
        support=support,
    )


def _prepared(annotations: pl.DataFrame) -> pl.DataFrame:
    columns = [name for name in table("annotations").schema if name != "outcome"]
    stated = (
        pl.col("stated_utc").cast(pl.Datetime("us", "UTC"))
        if "stated_utc" in annotations.columns
        else pl.lit(None, pl.Datetime("us", "UTC")).alias("stated_utc")
    )
    return _sorted(
        annotations.select(*columns, stated).with_columns(
            pl.coalesce("annotator", "source").alias("annotator")
        )
    )


def _sorted(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.sort("day", "camera_id", "video_id", "start_s", "end_s", "label", "label_id")


@dataclass
class _Chain:
    """A label that holds over following stretches."""

    label: str
    start_s: float
    end_s: float
    latest: frozenset[int]
    rows: set[int]
    how: set[str]


@dataclass
class _Judged:
    """What came out of the segments of which several annotators speak."""

    rule: str
    labels: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    conflicts: list[dict[str, Any]] = field(default_factory=list)
    support: list[tuple[str, str]] = field(default_factory=list)

    def take(self, rows: Sequence[Row]) -> None:
        """Judge one segment."""
        of_person: defaultdict[str, list[int]] = defaultdict(list)
        for number, person in enumerate(people(rows)):
            of_person[person].append(number)
        for person in sorted(of_person):
            numbers = of_person[person]
            if len({annotator_of(rows[n]) for n in numbers}) == 1:
                self._pass(rows, numbers)
            else:
                self._judge(rows, numbers, person)

    def _pass(self, rows: Sequence[Row], numbers: Sequence[int]) -> None:
        for number in numbers:
            self.labels.append(_as_row("labels", rows[number], resolution=_ONLY))
            self.annotations.append(_as_row("annotations", rows[number], outcome="used"))
            self.support.append((rows[number]["label_id"], rows[number]["label_id"]))

    def _judge(self, rows: Sequence[Row], numbers: Sequence[int], person: str) -> None:
        fates: dict[int, list[str]] = {number: [] for number in numbers}
        chains: list[_Chain] = []
        conflicts: list[tuple[float, float, dict[str, str | None], str | None]] = []
        speakers = sorted({annotator_of(rows[number]) for number in numbers})
        for stretch in stretches(rows, numbers):
            held, how, decided = _held(rows, stretch, self.rule)
            for label, supporters in held.items():
                _extend(chains, stretch, label, supporters, how)
            used = frozenset[int]().union(*held.values())
            for word in stretch.said.values():
                for number in (*word.rows, *word.also):
                    lost = "undecided" if decided is None else "outvoted"
                    fates[number].append("used" if number in used else lost)
            if how == self.rule:
                said = {
                    name: stretch.said[name].label if name in stretch.said else None
                    for name in speakers
                }
                _add_conflict(conflicts, stretch, said, decided)
        subject = next((rows[n]["subject"] for n in numbers if rows[n]["subject"]), None)
        for number in numbers:
            self.annotations.append(
                _as_row("annotations", rows[number], outcome=_outcome(fates[number]))
            )
        self._write_labels(rows, chains, subject)
        self._write_conflicts(rows[numbers[0]], conflicts, subject, person)

    def _write_labels(
        self, rows: Sequence[Row], chains: Sequence[_Chain], subject: str | None
    ) -> None:
        for chain in chains:
            by_trust = sorted(chain.rows, key=lambda n: _trust(rows[n]))
            lead = rows[by_trust[0]]
            told = {
                name: next((rows[n][name] for n in by_trust if rows[n][name] is not None), None)
                for name in ("zone", "event_id", "track")
            }
            label_id = lead["label_id"]
            if (chain.start_s, chain.end_s) != (lead["start_s"], lead["end_s"]):
                label_id = _hash(label_id, chain.start_s, chain.end_s)
            self.labels.append(
                _as_row(
                    "labels",
                    lead,
                    **told,
                    subject=subject,
                    label_id=label_id,
                    start_s=chain.start_s,
                    end_s=chain.end_s,
                    start_utc=_edge(rows, chain.rows, "start", chain.start_s),
                    end_utc=_edge(rows, chain.rows, "end", chain.end_s),
                    resolution=next(how for how in (self.rule, _AGREED, _ONLY) if how in chain.how),
                )
            )
            self.support += [(rows[n]["label_id"], label_id) for n in sorted(chain.rows)]

    def _write_conflicts(
        self,
        row: Row,
        conflicts: Sequence[tuple[float, float, dict[str, str | None], str | None]],
        subject: str | None,
        person: str,
    ) -> None:
        for start_s, end_s, said, decided in conflicts:
            self.conflicts.append(
                {
                    "day": row["day"],
                    "conflict_id": _hash(row["video_id"], person, start_s, end_s),
                    "video_id": row["video_id"],
                    "camera_id": row["camera_id"],
                    "start_s": start_s,
                    "end_s": end_s,
                    "subject": subject,
                    "said": json.dumps(said, sort_keys=True),
                    "decided": decided,
                }
            )


def _held(
    rows: Sequence[Row], stretch: Stretch, rule: str
) -> tuple[dict[str, frozenset[int]], str, str | None]:
    """The labels that hold on a stretch with the rows that say so; how; and the word decided."""
    said = stretch.said
    words = {word.label for word in said.values()}
    postures = words - {"other"}
    differ = len(postures) > 1 or ("other" in words and any(x in _GRAVE for x in postures))
    if differ:
        how, decided = rule, _decide(rows, said, rule)
    else:
        how = _ONLY if len(said) == 1 else _AGREED
        decided = next(iter(postures), "other")
    held: dict[str, frozenset[int]] = {}
    if decided is None:
        return held, how, decided
    winners = [word for word in said.values() if word.label == decided]
    held[decided] = frozenset(n for word in winners for n in word.rows)
    others = [n for word in winners for n in word.also]
    if decided not in _GRAVE:
        others += [n for word in said.values() if word.label == "other" for n in word.rows]
    if not differ:
        others += [n for word in said.values() for n in word.also]
    if others:
        held["other"] = held.get("other", frozenset()) | frozenset(others)
    return held, how, decided


def _decide(rows: Sequence[Row], said: Mapping[str, Word], rule: str) -> str | None:
    if rule == "unanimous":
        return None
    if rule == "majority":
        counts = Counter(word.label for word in said.values()).most_common(2)
        return None if len(counts) > 1 and counts[0][1] == counts[1][1] else counts[0][0]
    weights: defaultdict[tuple[int, float], set[str]] = defaultdict(set)
    for word in said.values():
        weights[min(_trust(rows[n])[:2] for n in word.rows)].add(word.label)
    best = weights[min(weights)]
    return next(iter(best)) if len(best) == 1 else None


def _trust(row: Row) -> tuple[int, float, str, str, int, str]:
    """Orders statements, the most trusted first; only the first two tell who is right."""
    stated = row["stated_utc"] or _NEVER
    return (
        SOURCES_BY_TRUST.index(row["source"]),
        -(stated - _NEVER).total_seconds(),
        annotator_of(row),
        row["file"],
        row["line"],
        row["label_id"],
    )


def _extend(
    chains: list[_Chain], stretch: Stretch, label: str, supporters: frozenset[int], how: str
) -> None:
    """Lengthen the label's chain where one of its statements goes on, else start one."""
    for chain in reversed(chains):
        if chain.label == label:
            if chain.end_s == stretch.start_s and chain.latest & supporters:
                chain.end_s = stretch.end_s
                chain.latest = supporters
                chain.rows |= supporters
                chain.how.add(how)
                return
            break
    chains.append(_Chain(label, stretch.start_s, stretch.end_s, supporters, set(supporters), {how}))


def _add_conflict(
    conflicts: list[tuple[float, float, dict[str, str | None], str | None]],
    stretch: Stretch,
    said: dict[str, str | None],
    decided: str | None,
) -> None:
    if conflicts:
        start_s, end_s, before, decision = conflicts[-1]
        if end_s == stretch.start_s and before == said and decision == decided:
            conflicts[-1] = (start_s, stretch.end_s, said, decided)
            return
    conflicts.append((stretch.start_s, stretch.end_s, said, decided))


def _outcome(fates: Sequence[str]) -> str:
    used = fates.count("used")
    if used:
        return "used" if used == len(fates) else "in_part"
    return "undecided" if "undecided" in fates else "outvoted"


def _edge(rows: Sequence[Row], numbers: set[int], edge: str, at_s: float) -> datetime | None:
    """The moment of a chain's end, from a row that tells one."""
    for number in sorted(numbers):
        moment = rows[number][f"{edge}_utc"]
        if moment is not None:
            shift = timedelta(seconds=at_s - rows[number][f"{edge}_s"])
            return (moment + shift) if isinstance(moment, datetime) else None
    return None


def _joined(labels: pl.DataFrame, kept: pl.DataFrame, support: pl.DataFrame) -> pl.DataFrame:
    """Give the parts of one interval in several segments one interval and one event.

    Per segment a label may rest on other statements; it is one with the next segment's where a
    statement that both rest on reaches over the boundary.
    """
    told = kept.filter(pl.col("interval_id").is_not_null())
    spread = told.filter(pl.col("video_id").n_unique().over("interval_id") > 1)
    if spread.is_empty():
        return labels
    parts = (
        spread.select("label_id", "interval_id", "start_s", "end_s", "start_utc")
        .join(support, left_on="label_id", right_on="annotation_id", suffix="_of")
        .rename({"label_id_of": "of"})
        .join(
            labels.select(of="label_id", of_start_s="start_s", of_end_s="end_s"),
            on="of",
        )
        .sort("interval_id", "start_utc", "of_start_s")
    )
    root: dict[str, str] = {}

    def find(one: str) -> str:
        while root.setdefault(one, one) != one:
            one = root[one]
        return one

    for _interval, group in parts.group_by("interval_id", maintain_order=True):
        rows = group.to_dicts()
        for before, after in pairwise(rows):
            reaches_over = (
                before["label_id"] != after["label_id"]
                and before["of_end_s"] >= before["end_s"]
                and after["of_start_s"] <= after["start_s"]
            )
            if reaches_over:
                root[find(after["of"])] = find(before["of"])
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for one in root:
        groups[find(one)].append(one)
    by_id = {
        row["label_id"]: row
        for row in labels.filter(pl.col("label_id").is_in(list(root))).iter_rows(named=True)
    }
    changes = []
    for first, members in groups.items():
        if len(members) < 2:
            continue
        rows = sorted((by_id[one] for one in members), key=lambda row: row["start_utc"])
        event = next((row["event_id"] for row in rows if row["event_id"]), None)
        changes += [(row["label_id"], by_id[first]["interval_id"], event) for row in rows]
    if not changes:
        return labels
    changed = pl.DataFrame(
        changes,
        schema={"label_id": pl.String(), "joined_id": pl.String(), "joined_event": pl.String()},
        orient="row",
    )
    return (
        labels.join(changed, on="label_id", how="left")
        .with_columns(
            pl.coalesce("joined_id", "interval_id").alias("interval_id"),
            pl.coalesce("joined_event", "event_id").alias("event_id"),
        )
        .select(labels.columns)
    )


def _as_row(name: str, row: Row, **changes: Any) -> dict[str, Any]:
    values = {**row, **changes}
    return {column: values[column] for column in table(name).schema}


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


if set(SOURCES_BY_TRUST) != set(LABEL_SOURCES):
    raise AssertionError("SOURCES_BY_TRUST and the registry's LABEL_SOURCES must hold the same")
