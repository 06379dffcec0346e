"""Retention: footage that is old enough is deleted, and every deletion is in the audit.

What belongs here: deleting, its audit, legal holds. What does not: which footage may go (see
`footage/retention.py`).

The order survives a kill at any moment: what is planned is written down before a file is touched,
what came of it after, then the tables `sightings` and `videos` are told. A run that finds plans
without an end completes them: it looks again whether the footage may go.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any, Literal, TypeVar

import polars as pl

from fall_assets.datasets import SITE
from fall_assets.errors import FallAssetsError, PassingFailureError
from fall_assets.footage.retention import (
    KEEPERS,
    HoldError,
    Keeper,
    decide,
    is_held,
    open_holds,
)
from fall_assets.lake.registry import one_row, table
from fall_assets.pipeline.files import sightings_of
from fall_assets.pipeline.locks import BusyError, locked, segments_of
from fall_assets.pipeline.work import Work

T = TypeVar("T")
Row = Mapping[str, Any]
State = Literal["planned", "deleted", "already_gone", "failed"]

CHUNK = 256
"""So many files are deleted under one look at the legal holds."""
FAILURES_SHOWN = 50

_HOLDS = "legal-holds"
_HOLDS_WAIT_S = 120.0
_OTHER_DAY_WAIT_S = 5.0
# A bucket that is away must not cost its time-outs per file.
_FAILURES_IN_A_ROW = 3
_REASON_LENGTH = 500
_SPARED = "kept after it was planned"
# The newest commits of the audit: those of maintenance, which name no day, are passed over.
_COMMITS = 50


@dataclass
class Retention:
    """What one run of the retention did.

    Attributes:
        days: how many days were looked at.
        files: files deleted.
        bytes: their size.
        already_gone: files that were gone before they could be deleted.
        videos: segments that have no file any more.
        kept: how many segments that are old enough stay, by what keeps them (a segment may be
            kept by several).
        spared: files that a hold, a label or an alert kept after they were planned.
        failed: how many files could not be deleted; they are tried again by the next run.
        failures: audit rows of the first of them.
        busy: days that were being taken in; the next run looks at them.
    """

    days: int = 0
    files: int = 0
    bytes: int = 0
    already_gone: int = 0
    videos: int = 0
    kept: dict[Keeper, int] = field(default_factory=lambda: dict.fromkeys(KEEPERS, 0))
    spared: int = 0
    failed: int = 0
    failures: list[Row] = field(default_factory=list)
    busy: list[date] = field(default_factory=list)

    def kept_by(self) -> list[tuple[str, int]]:
        """What keeps old segments, in words, and how many each keeps."""
        return [(KEEPERS[keeper], count) for keeper, count in self.kept.items()]


def apply_retention(work: Work, *, now: datetime | None = None) -> Retention:
    """Delete the footage that is older than the site's retention and that nothing keeps.

    Rows stay and say when the last file of a segment was deleted. A file that cannot be deleted
    is audited and the others go on. Reads the days older than the retention that still have
    footage, one at a time, and of other days the names of files that are there.

    Args:
        work: the site and its lake.
        now: the present; the clock's where None.

    Raises:
        BusyError: another run of the retention is at work.
    """
    moment = datetime.now(UTC) if now is None else now.astimezone(UTC)
    days = work.site.settings.retention.days
    with locked(work, "retention"):
        run = _Run(work, moment, days)
        unfinished = _newest_audited_day(work)
        if unfinished is not None:
            run.look_at(unfinished)
        for day in _old_days(work, moment - timedelta(days=days)) if days else ():
            if day != unfinished:
                run.look_at(day)
    return run.done


def place_hold(
    work: Work,
    *,
    reason: str,
    placed_by: str,
    camera_id: str | None = None,
    video_id: str | None = None,
    from_utc: datetime | None = None,
    until_utc: datetime | None = None,
    now: datetime | None = None,
) -> str:
    """Place a legal hold and return its id; once this returns, nothing that it covers is deleted.

    What is None does not narrow it: without any, all footage is held. Waits for the few files
    that a run of the retention is deleting at this moment.

    Raises:
        HoldError: nobody or no reason is named, the end lies before the start, or there is no
            such camera or segment.
        BusyError: the retention did not pause within two minutes.
    """
    if not reason.strip() or not placed_by.strip():
        raise HoldError("a legal hold needs a reason and the name of who places it")
    if from_utc is not None and until_utc is not None and until_utc < from_utc:
        raise HoldError(f"the hold ends ({until_utc}) before it starts ({from_utc})")
    if camera_id is not None:
        cameras = work.lake.read("cameras", columns=["camera_id"])["camera_id"].to_list()
        if camera_id not in cameras:
            raise HoldError(f"no camera {camera_id!r}; there are: {', '.join(cameras) or 'none'}")
    if video_id is not None:
        found = work.lake.read("videos", where=pl.col("video_id") == video_id)
        if found.is_empty():
            raise HoldError(f"no segment {video_id!r}; the table videos names them by video_id")
        if deleted := found["deleted_utc"][0]:
            raise HoldError(f"segment {video_id} has no file any more since {deleted}")
    moment = datetime.now(UTC) if now is None else now.astimezone(UTC)
    said = "|".join(
        str(part) for part in (camera_id, video_id, from_utc, until_utc, reason, placed_by, moment)
    )
    row = {
        "hold_id": hashlib.sha256(said.encode()).hexdigest()[:12],
        "camera_id": camera_id,
        "video_id": video_id,
        "from_utc": from_utc,
        "until_utc": until_utc,
        "reason": reason.strip(),
        "placed_by": placed_by.strip(),
        "placed_utc": moment,
        "released_by": None,
        "released_utc": None,
    }
    with locked(work, _HOLDS, wait_s=_HOLDS_WAIT_S):
        work.lake.append("legal_holds", one_row("legal_holds", row), work.provenance())
    return str(row["hold_id"])


def release_hold(
    work: Work, hold_id: str, *, released_by: str, now: datetime | None = None
) -> None:
    """Release a legal hold; its row stays.

    Raises:
        HoldError: nobody is named, there is no such hold, or it was released before.
    """
    if not released_by.strip():
        raise HoldError("name who releases the hold")
    with locked(work, _HOLDS, wait_s=_HOLDS_WAIT_S):
        found = work.lake.read("legal_holds", where=pl.col("hold_id") == hold_id)
        if found.is_empty():
            raise HoldError(f"no legal hold {hold_id!r}; `fall-assets hold list` names them")
        row = found.row(0, named=True)
        if row["released_utc"] is not None:
            raise HoldError(
                f"hold {hold_id} was released by {row['released_by']} at {row['released_utc']}"
            )
        moment = datetime.now(UTC) if now is None else now.astimezone(UTC)
        row |= {"released_by": released_by.strip(), "released_utc": moment}
        work.lake.upsert("legal_holds", one_row("legal_holds", row), work.provenance())


def held_footage(work: Work, hold_id: str) -> tuple[int, int]:
    """How many segments a hold covers that have a file, and how many that have none any more."""
    holds = work.lake.read("legal_holds", where=pl.col("hold_id") == hold_id)
    if holds.is_empty():
        raise HoldError(f"no legal hold {hold_id!r}; `fall-assets hold list` names them")
    hold = holds.row(0, named=True)
    end = pl.col("start_utc") + pl.duration(microseconds=pl.col("duration_s") * 1_000_000)
    covered = work.lake.scan("videos")
    for name in ("camera_id", "video_id"):
        if hold[name] is not None:
            covered = covered.filter(pl.col(name) == hold[name])
    if hold["from_utc"] is not None:
        covered = covered.filter(end >= hold["from_utc"])
    if hold["until_utc"] is not None:
        covered = covered.filter(pl.col("start_utc") <= hold["until_utc"])
    gone = covered.select(pl.col("deleted_utc").is_not_null()).collect()["deleted_utc"]
    return int((~gone).sum()), int(gone.sum())


@dataclass(frozen=True)
class _Target:
    """A file that is to be deleted.

    Attributes:
        deletion_id: in the audit.
        path: below the landing folder, or a bucket's address.
        day: the partition of its sighting; None where it has no sighting.
        video: row of `videos`.
        bytes: its size at intake.
        fingerprint: at intake; None where it has no sighting.
    """

    deletion_id: str
    path: str
    day: date | None
    video: Row
    bytes: int
    fingerprint: str | None


class _Run:
    """One run of the retention over days."""

    def __init__(self, work: Work, now: datetime, days: int) -> None:
        self.done = Retention()
        self.footage = work.footage
        self._work = work
        self._now = now
        self._started_s = time.monotonic()
        self._days = days
        self._rule = f"older than the retention of {days} days"
        self._away: dict[str, int] = {}

    def look_at(self, day: date) -> None:
        """Delete what may go of one day."""
        self.done.days += 1
        with ExitStack() as held:
            try:
                held.enter_context(locked(self._work, segments_of(day)))
            except BusyError as error:
                self.done.busy.append(day)
                self._work.log(f"{day}: left to the next run; {error}")
                return
            _Day(self, self._work, day, self._now, self._days).apply(self._rule)

    def moment(self) -> datetime:
        """The present."""
        return self._now + timedelta(seconds=time.monotonic() - self._started_s)

    def delete(self, target: _Target, siblings: Sequence[str]) -> tuple[State, str]:
        """Delete one file; its state for the audit, and what is to be said about it.

        `siblings` are all files of the same content that are known.
        """
        store = target.path.split("/", 3)[2] if target.path.startswith("s3://") else ""
        if self._away.get(store, 0) >= _FAILURES_IN_A_ROW:
            return "failed", f"not tried: bucket {store} did not answer {_FAILURES_IN_A_ROW} times"
        try:
            if target.fingerprint is not None:
                self.footage.forget(target.path, target.fingerprint)
            state = self.footage.state(target.path)
            if state is None:
                self._away[store] = 0
                return "already_gone", "gone before it could be deleted"
            same = (
                state.bytes == target.bytes
                if target.fingerprint is None
                else state.fingerprint == target.fingerprint
            )
            if not same:
                return "failed", (
                    "it was written again since it was taken in: materialize videos of the day"
                )
            if problem := self._leads_elsewhere(target.path, siblings):
                return "failed", problem
            deleted = self.footage.delete(target.path)
        except PassingFailureError as error:
            self._away[store] = self._away.get(store, 0) + 1
            return "failed", str(error)[:_REASON_LENGTH]
        except (OSError, FallAssetsError) as error:
            return "failed", (str(error) or type(error).__name__)[:_REASON_LENGTH]
        self._away[store] = 0
        return ("deleted", "") if deleted else ("already_gone", "gone before it could be deleted")

    def _leads_elsewhere(self, path: str, siblings: Sequence[str]) -> str | None:
        """What is wrong where the file is a link whose content would stay when it is deleted."""
        if path.startswith("s3://") or not (self._work.site.landing / path).is_symlink():
            return None
        landing = self._work.site.landing.resolve()
        content = (landing / path).resolve()
        if any((landing / sibling).resolve() == content for sibling in siblings if sibling != path):
            return None
        return f"it is a link; delete what it leads to ({content}) by hand"


class _Day:
    """One day's segments, under the lock of the day."""

    def __init__(self, run: _Run, work: Work, day: date, now: datetime, days: int) -> None:
        self._run = run
        self._work = work
        self._day = day
        self._now = now
        self._days = days
        self._audit = work.lake.read("deletions", days=[day])
        self._videos = work.lake.read("videos", days=[day])
        self._by_id = {row["video_id"]: row for row in self._videos.iter_rows(named=True)}
        newest = self._audit["at_utc"].max()
        self._newest_utc = newest if isinstance(newest, datetime) else None
        self._gone: dict[str, datetime] = {}

    def apply(self, rule: str) -> None:
        """Decide, plan, delete, and tell the tables."""
        newest = self._newest()
        planned = {
            deletion_id: row for deletion_id, row in newest.items() if row["state"] == "planned"
        }
        standing = self._videos.filter(pl.col("deleted_utc").is_null())
        if standing.is_empty() and not planned:
            return
        named = self._work.lake.read("sightings", days=[self._day])
        go, why, sightings = self._decide(standing, named)
        # What the day's names hold by now.
        holders = dict(named.select("path", "video_id").iter_rows())
        targets = list(self._targets(go, sightings, holders))
        wanted = {target.deletion_id for target in targets}
        interrupted = [row for key, row in planned.items() if key not in wanted]
        self._close(interrupted, why)
        todo = [target for target in targets if not self._is_done(target, newest, holders)]
        self._record(
            [
                self._row(_audited(target), "planned", rule)
                for target in todo
                if target.deletion_id not in planned
            ]
        )
        self._delete(todo, planned, rule, sightings)
        ids = {*go, *(row["video_id"] for row in interrupted)}
        self._mark(sorted(ids & self._by_id.keys()), targets, sightings)

    def _decide(
        self, standing: pl.DataFrame, named: pl.DataFrame
    ) -> tuple[tuple[str, ...], dict[str, str], pl.DataFrame]:
        """The video_ids that may go, why others stay, and all sightings of those that may go."""
        lake, around = self._work.lake, [self._day + timedelta(days=back) for back in (-1, 0, 1)]
        labelled = pl.concat(
            lake.read(name, days=[self._day], columns=["video_id"])["video_id"]
            for name in ("labels", "annotations")
        )
        alerts = lake.read("alerts", days=around)
        holds = open_holds(lake.read("legal_holds"))
        first = decide(
            standing,
            named,
            now=self._now,
            days=self._days,
            labelled=labelled,
            alerts=alerts,
            holds=holds,
        )
        kept = dict(first.kept)
        sightings = table("sightings").empty()
        go = first.go
        if go:
            sightings = sightings_of(self._work, go)
            again = decide(
                standing.filter(pl.col("video_id").is_in(list(go))),
                sightings,
                now=self._now,
                days=self._days,
                labelled=labelled,
                alerts=alerts,
                holds=holds,
            )
            kept |= again.kept
            go = again.go
        for keepers in kept.values():
            for keeper in keepers:
                self._run.done.kept[keeper] += 1
        why = {key: " and ".join(KEEPERS[name] for name in names) for key, names in kept.items()}
        return go, why, sightings

    def _targets(
        self, go: Sequence[str], sightings: pl.DataFrame, holders: Mapping[str, str]
    ) -> Iterator[_Target]:
        """The files of the segments that may go; links come before what they lead to."""
        landing = self._work.site.landing
        there = sightings.filter(pl.col("gone_utc").is_null()).partition_by(
            "video_id", as_dict=True
        )
        for video_id in go:
            video = self._by_id[video_id]
            files = there.get((video_id,))
            if files is None:
                # Taken in before sightings were kept, or gone as far as intake knows. A name that
                # has another content by now is that content's.
                if holders.get(video["path"], video_id) == video_id:
                    yield _Target(
                        _deletion_id(video["path"], video_id),
                        video["path"],
                        None,
                        video,
                        video["bytes"],
                        None,
                    )
                continue
            for file in sorted(
                files.iter_rows(named=True),
                key=lambda file: (not (landing / file["path"]).is_symlink(), file["path"]),
            ):
                yield _Target(
                    _deletion_id(file["path"], video_id),
                    file["path"],
                    file["day"],
                    video,
                    file["bytes"],
                    file["fingerprint"],
                )

    def _is_done(
        self, target: _Target, newest: Mapping[str, Row], holders: Mapping[str, str]
    ) -> bool:
        """Whether the audit, or intake, told of the file's end before and it is still so."""
        last = newest.get(target.deletion_id)
        told = last is not None and last["state"] in ("deleted", "already_gone")
        if not told and not (target.day is None and target.path in holders):
            return False
        try:
            if self._run.footage.state(target.path) is not None:
                return False
        except (OSError, FallAssetsError):
            return False
        self._gone[target.path] = last["at_utc"] if told and last else self._run.moment()
        return True

    def _close(self, interrupted: Sequence[Row], why: Mapping[str, str]) -> None:
        """End plans of an interrupted run whose footage may not go any more."""
        rows = []
        for row in interrupted:
            try:
                gone = self._run.footage.state(row["path"]) is None
            except (OSError, FallAssetsError) as error:
                self._work.log(f"{row['path']}: {error}")
                continue
            if gone:
                rows.append(self._row(row, "already_gone", _interrupted(row)))
                self._gone[row["path"]] = rows[-1]["at_utc"]
            else:
                reason = why.get(row["video_id"], "it is not older than the retention any more")
                rows.append(self._row(row, "failed", f"{_SPARED}: {reason}"))
        self._count(rows)
        self._record(rows)

    def _delete(
        self,
        targets: Sequence[_Target],
        planned: Mapping[str, Row],
        rule: str,
        sightings: pl.DataFrame,
    ) -> None:
        names = sightings.partition_by("video_id", as_dict=True)
        paths: dict[str, list[str]] = {}
        for target in targets:
            paths.setdefault(target.video["video_id"], []).append(target.path)
        say = self._work.progress(f"{self._day}: files deleted")
        done = 0
        for chunk in _chunks(targets, CHUNK):
            rows = []
            # A hold that was placed waits for this lock: none can come between look and deletion.
            with locked(self._work, _HOLDS, wait_s=_HOLDS_WAIT_S):
                holds = open_holds(self._work.lake.read("legal_holds"))
                for target in chunk:
                    video_id = target.video["video_id"]
                    seen = names.get((video_id,))
                    other = [] if seen is None else seen.to_dicts()
                    hold = next((h for h in holds if is_held(h, target.video, other)), None)
                    if hold is not None:
                        state: State = "failed"
                        reason = f"{_SPARED}: legal hold {hold.hold_id}"
                    else:
                        state, reason = self._run.delete(target, paths[video_id])
                    before = planned.get(target.deletion_id)
                    if state == "already_gone" and before is not None:
                        reason = _interrupted(before)
                    row = self._row(_audited(target), state, reason or rule)
                    if state in ("deleted", "already_gone"):
                        self._gone[target.path] = row["at_utc"]
                    rows.append(row)
            self._count(rows)
            self._record(rows)
            done += len(chunk)
            say(done, len(targets))

    def _mark(
        self, ids: Sequence[str], targets: Sequence[_Target], sightings: pl.DataFrame
    ) -> None:
        """Tell `sightings` which files are gone, and `videos` which segments have none left."""
        if not ids:
            return
        days = {self._day, *sightings.filter(pl.col("path").is_in(list(self._gone)))["day"]}
        for day in sorted(days):
            if day == self._day:
                self._mark_sightings(day, ids)
                continue
            # Where that day is being taken in, the next run finds the file gone and marks it.
            with (
                suppress(BusyError),
                locked(self._work, segments_of(day), wait_s=_OTHER_DAY_WAIT_S),
            ):
                self._mark_sightings(day, ids)
        left = {target.video["video_id"] for target in targets if target.path not in self._gone}
        there = sightings_of(self._work, ids).filter(pl.col("gone_utc").is_null())["video_id"]
        bare = [key for key in ids if key not in left and key not in set(there)]
        last: dict[str, datetime] = {}
        for target in targets:
            if at := self._gone.get(target.path):
                key = target.video["video_id"]
                last[key] = max(at, last.get(key, at))
        videos = self._work.lake.read("videos", days=[self._day])
        deleted = pl.DataFrame(
            {"video_id": bare, "_at": [last.get(key, self._run.moment()) for key in bare]},
            schema={"video_id": pl.String, "_at": pl.Datetime("us", "UTC")},
        )
        marked = (
            videos.join(deleted, on="video_id", how="left", maintain_order="left")
            .with_columns(
                deleted_utc=pl.when(pl.col("dataset") == SITE)
                .then(pl.coalesce("deleted_utc", "_at"))
                .otherwise("deleted_utc")
            )
            .drop("_at")
        )
        if not marked.equals(videos):
            count = int(marked["deleted_utc"].count() - videos["deleted_utc"].count())
            self._work.lake.replace_partition(
                "videos", self._day, marked, self._work.provenance(self._day)
            )
            self._run.done.videos += count

    def _mark_sightings(self, day: date, ids: Sequence[str]) -> None:
        rows = self._work.lake.read("sightings", days=[day])
        gone = pl.DataFrame(
            {"path": list(self._gone), "_at": list(self._gone.values())},
            schema={"path": pl.String, "_at": pl.Datetime("us", "UTC")},
        )
        marked = (
            rows.join(gone, on="path", how="left", maintain_order="left")
            .with_columns(
                gone_utc=pl.when(pl.col("video_id").is_in(list(ids)))
                .then(pl.coalesce("gone_utc", "_at"))
                .otherwise("gone_utc")
            )
            .drop("_at")
        )
        if not marked.equals(rows):
            self._work.lake.replace_partition("sightings", day, marked, self._work.provenance(day))

    def _newest(self) -> dict[str, Row]:
        """The newest row of the audit of each file."""
        return {row["deletion_id"]: row for row in self._audit.sort("at_utc").iter_rows(named=True)}

    def _row(self, of: Row, state: State, reason: str) -> dict[str, Any]:
        """A row of the audit; its moment is later than all before it, however the clock is set."""
        at = self._run.moment()
        if self._newest_utc is not None and at <= self._newest_utc:
            at = self._newest_utc + timedelta(microseconds=1)
        names = ("deletion_id", "day", "video_id", "camera_id", "path", "bytes")
        return {
            **{name: of[name] for name in names},
            "state": state,
            "at_utc": at,
            "reason": reason,
            "run_id": self._work.run_id,
        }

    def _record(self, rows: Sequence[Row]) -> None:
        if not rows:
            return
        new = pl.DataFrame(rows, schema=table("deletions").schema)
        self._audit = pl.concat([self._audit, new])
        self._newest_utc = max(row["at_utc"] for row in rows)
        self._work.lake.replace_partition(
            "deletions", self._day, self._audit, self._work.provenance(self._day)
        )

    def _count(self, rows: Iterable[Row]) -> None:
        done = self._run.done
        for row in rows:
            if row["state"] == "deleted":
                done.files += 1
                done.bytes += row["bytes"]
            elif row["state"] == "already_gone":
                done.already_gone += 1
            elif row["reason"].startswith(_SPARED):
                done.spared += 1
            else:
                done.failed += 1
                if len(done.failures) < FAILURES_SHOWN:
                    done.failures.append(row)


def _old_days(work: Work, limit: datetime) -> list[date]:
    """Days that may have footage older than `limit`, in order."""
    rows = (
        work.lake.scan("videos")
        .filter(pl.col("day") <= limit.date(), pl.col("deleted_utc").is_null())
        .filter(pl.col("dataset") == SITE)
        .select(pl.col("day").unique())
        .collect(engine="streaming")
    )
    return sorted(rows["day"])


def _newest_audited_day(work: Work) -> date | None:
    """The only day in which plans of an interrupted run may stand: days are done one by one."""
    for commit in work.lake.history("deletions", limit=_COMMITS):
        if commit["partition"]:
            return date.fromisoformat(commit["partition"])
    return None


def _audited(target: _Target) -> Row:
    return {
        "deletion_id": target.deletion_id,
        "day": target.video["day"],
        "video_id": target.video["video_id"],
        "camera_id": target.video["camera_id"],
        "path": target.path,
        "bytes": target.bytes,
    }


def _deletion_id(path: str, video_id: str) -> str:
    return hashlib.sha256(f"{path}\n{video_id}".encode()).hexdigest()[:16]


def _interrupted(planned: Row) -> str:
    return (
        f"gone when the deletion that run {planned['run_id']} planned was completed: that run "
        "was interrupted"
    )


def _chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
