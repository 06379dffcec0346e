"""Operation: each day's footage is scored, and alerts go to the ward.

What belongs here: scores, alerts, what versions in shadow would have raised. What does not: which
version watches which camera, live or in shadow (`serving`).

When a camera's version changes with a day, the new one judges that day's footage from its start, as
a box does after an update; a fall that still shows there, and of which the old one told the evening
before, is not told again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fall_assets.delivery.alerts import merge
from fall_assets.delivery.channels import AlertSettings, Channel, LogChannel, Webhook, deliver
from fall_assets.delivery.kinds import Kind, kind_of
from fall_assets.delivery.stills import still
from fall_assets.errors import FallAssetsError, PermanentFailureError
from fall_assets.features.crop import Crop
from fall_assets.features.extract import Team, extract
from fall_assets.features.packing import unpack_keypoints
from fall_assets.features.segments import VideoRef
from fall_assets.features.settings import FeatureSettings
from fall_assets.footage.probe import probe
from fall_assets.labelling.zones import zones_at
from fall_assets.lake.registry import table
from fall_assets.learning.windows import segment_tracks
from fall_assets.pipeline.files import files_of
from fall_assets.pipeline.serving import (
    Part,
    detector_of,
    rows_of,
    serving_on,
    serving_over,
    watched,
)
from fall_assets.pipeline.work import Work

if TYPE_CHECKING:
    from fall_assets.learning.detector import Detector
    from fall_assets.learning.events import Event

# Times go through microseconds and back.
_MADE = "alerts"
"""Folder of the lake's files that say when a day's alerts were made."""
_SAME_MOMENT_S = 0.005
_WHOLE_PICTURE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def predict(work: Work, day: date) -> pl.DataFrame:
    """Score the day's segments, each with every version that watches its camera that day.

    A version in shadow that has no features that day is left out, with a line in the log.

    Raises:
        PermanentFailureError: no champion is registered, or the day's features are of another
            feature set than that of a version that is live.
    """
    videos = work.lake.read("videos", days=[day])
    featured = work.lake.read(
        "features", days=[day], columns=["video_id", "camera_id", "feature_set"]
    )
    cameras = {*videos["camera_id"], *featured["camera_id"]}
    parts = serving_on(work, day)
    watching = watched(parts, cameras)
    rows = [table("predictions").empty()]
    for version in dict.fromkeys(part.model_version for part in parts):
        live, shadow = (
            [
                camera
                for part, own in watching
                if part.model_version == version and part.shadow == hidden
                for camera in own
            ]
            for hidden in (False, True)
        )
        serves = any(part.model_version == version and not part.shadow for part in parts)
        try:
            detector = detector_of(work, version)
        except PermanentFailureError as error:
            if serves:
                raise
            work.log(f"version {version} does not watch {day} in shadow: {error}")
            continue
        usable = featured.filter(pl.col("feature_set") == detector.feature_set)
        for ids in (live, shadow):
            seen = pl.col("camera_id").is_in(ids)
            if featured.filter(seen).is_empty() or not usable.filter(seen).is_empty():
                continue
            lack = f"{day} has no features of feature set {detector.feature_set}, which"
            if ids is live:
                raise PermanentFailureError(
                    f"{lack} champion {version} needs: train and register a model on the current "
                    "feature set"
                    if len(parts) == 1
                    else f"{lack} version {version} needs, which is live on {', '.join(ids[:5])}: "
                    "materialize features of the day, or roll back"
                )
            work.log(f"{lack} version {version} needs: it does not watch that day in shadow")
        ready = videos.filter(
            pl.col("video_id").is_in(usable["video_id"].unique().to_list()),
            pl.col("camera_id").is_in([*live, *shadow]),
        )
        rows += _scored(work, day, ready, detector, version)
    predictions = pl.concat(rows)
    work.lake.replace_partition("predictions", day, predictions, work.provenance(day))
    return predictions


def _scored(
    work: Work, day: date, videos: pl.DataFrame, detector: Detector, version: str
) -> Iterator[pl.DataFrame]:
    """Rows of `predictions`, a frame for each segment."""
    tracks = work.lake.read("pose_tracks", days=[day]).filter(
        pl.col("feature_set") == detector.feature_set
    )
    for video in videos.iter_rows(named=True):
        own = tracks.filter(pl.col("video_id") == video["video_id"])
        scores = detector.scores(segment_tracks(video["video_id"], video["duration_s"], own))
        yield pl.DataFrame(
            {
                "day": day,
                "video_id": video["video_id"],
                "camera_id": video["camera_id"],
                "model_version": version,
                "feature_set": detector.feature_set,
                "end_s": np.asarray(scores.end_s, np.float64),
                "track": list(scores.track),
                "score": np.asarray(scores.score, np.float64),
            },
            schema=table("predictions").schema,
        )


@dataclass(frozen=True)
class AlertDay:
    """One day's alerts and the attempts to deliver them that this call made."""

    alerts: pl.DataFrame
    attempts: pl.DataFrame


def raise_alerts(work: Work, day: date, channels: Sequence[Channel] | None = None) -> AlertDay:
    """Merge the day's scores into alerts, say their kinds, take stills, and deliver what is new.

    Of each camera only the version that is live there that day raises alerts. An event is one alert
    however often the day is recomputed, and keeps its still where its footage is gone, its kind
    where its key points are. The site's settings say which kinds each ward is told of. `channels`
    defaults to the log and, where one is configured, the webhook.
    """
    began = datetime.now(UTC)
    footage = _footage(work, day)
    videos, serving = footage.videos, footage.serving
    predictions = rows_of(footage.predictions, serving)
    before = work.lake.read("alerts", days=footage.days)
    alerts = _raised(work, day, predictions, footage, before)
    changed = _changed_cameras(serving[footage.days[0]], serving[day], alerts["camera_id"])
    told = before.filter(pl.col("day") < day)["alert_id"].to_list()
    alerts = alerts.filter(~(pl.col("camera_id").is_in(changed) & pl.col("alert_id").is_in(told)))
    tracks = _tracks(work, day, alerts)
    alerts = _with_kinds(work, alerts, videos, predictions, tracks, before)
    alerts = _with_stills(work, day, alerts, videos, before, tracks)
    work.lake.replace_partition("alerts", day, alerts, work.provenance(day))
    # A quiet day has no rows that could tell.
    work.lake.write_file(began.isoformat().encode(), _MADE, f"{day}.txt")
    attempts = deliver(
        alerts,
        work.lake.read("alert_deliveries"),
        _channels(work) if channels is None else channels,
        now=lambda: datetime.now(UTC),
        settings=_choice(work),
        record=lambda row: work.lake.append("alert_deliveries", row, work.provenance()),
    )
    return AlertDay(alerts, attempts)


def alerts_are_made(work: Work, days: Sequence[date]) -> list[date]:
    """Those of some days whose alerts were made of their newest scores."""
    made = []
    scored = work.lake.written("predictions", days)
    for day in days:
        file = work.lake.file(_MADE, f"{day}.txt")
        if file.exists() and day in scored:
            # The lake's times are to the millisecond.
            began = datetime.fromisoformat(file.read_text()) + timedelta(milliseconds=1)
            made += [day] if began >= scored[day] else []
    return made


def shadow_events(work: Work, day: date) -> pl.DataFrame:
    """What each version in shadow would have raised on a day; written nowhere.

    Returns:
        camera_id, model_version, start_utc, raised_utc and score, a row per event, sorted by these.
    """
    footage = _footage(work, day)
    scores = rows_of(footage.predictions, footage.serving, shadow=True)
    events = _raised(work, day, scores, footage, table("alerts").empty())
    columns = ["camera_id", "model_version", "start_utc", "raised_utc", "score"]
    return events.select(columns).sort(columns)


@dataclass(frozen=True)
class _Footage:
    """What is known of a day and its neighbours, so that events are joined over midnight."""

    days: list[date]
    predictions: pl.DataFrame
    videos: pl.DataFrame
    serving: Mapping[date, Sequence[Part]]


def _footage(work: Work, day: date) -> _Footage:
    days = [day + timedelta(days=offset) for offset in (-1, 0, 1)]
    videos = work.lake.read("videos", days=days)
    predictions = work.lake.read("predictions", days=days)
    predictions = predictions.filter(pl.col("video_id").is_in(videos["video_id"].to_list()))
    return _Footage(days, predictions, videos, serving_over(work, days))


def _raised(
    work: Work, day: date, predictions: pl.DataFrame, footage: _Footage, previous: pl.DataFrame
) -> pl.DataFrame:
    """The day's alerts, without kind and still, each version's by its own rule."""
    cameras = work.lake.read("cameras")
    rows = [table("alerts").empty()]
    for version in predictions["model_version"].unique().sort():
        detector = detector_of(work, version)
        rows.append(
            merge(
                predictions.filter(pl.col("model_version") == version),
                footage.videos,
                cameras,
                settings=detector.events,
                previous=previous,
                window_s=detector.windows.window_s,
                day=day,
            )
        )
    return pl.concat(rows).sort("camera_id", "raised_utc")


def _changed_cameras(
    before: Sequence[Part], after: Sequence[Part], cameras: Iterable[str]
) -> list[str]:
    """Cameras whose live version is another than before."""
    ids = set(cameras)
    old, new = (
        {
            camera: part.model_version
            for part, own in watched(parts, ids)
            if not part.shadow
            for camera in own
        }
        for parts in (before, after)
    )
    return [camera for camera in ids if old[camera] != new[camera]]


def detect_file(path: Path, detector: Detector, settings: FeatureSettings) -> list[Event]:
    """The falls in one video file, by the same way that footage of a camera goes.

    `settings` are the site's for the detector.

    Raises:
        UnusableFileError: the file cannot be used.
        FeatureSetError: the detector needs another feature set than this version computes.
    """
    detector.check_feature_set(settings.version)
    probed = probe(path)
    video = VideoRef(path, probed.video_id, "file", datetime.now(UTC).date())
    tracks = extract(video, Team.of([settings])).pose_tracks
    return detector.detect(segment_tracks(probed.video_id, probed.duration_s, tracks))


def _channels(work: Work) -> list[Channel]:
    channels: list[Channel] = [LogChannel()]
    if work.site.webhook_url:
        channels.append(Webhook(work.site.webhook_url))
    return channels


def _choice(work: Work) -> AlertSettings:
    """The site's choice of who is told of what; a ward in it that no camera has is logged."""
    choice = work.site.settings.alerts
    if choice.wards:
        wards = set(work.lake.read("cameras", columns=["ward"])["ward"])
        for one in choice.wards:
            if one.ward not in wards:
                known = ", ".join(sorted(wards))
                work.log(
                    f"site.toml, [[alerts.wards]]: no camera is in ward {one.ward!r}; correct the "
                    f"name; there are: {known}"
                )
    return choice


def _tracks(work: Work, day: date, alerts: pl.DataFrame) -> pl.DataFrame:
    """Everybody tracked in the alerts' segments, by the site's feature set for the detector.

    Key points of other sets may be those of another crop: heads and beds would be elsewhere.
    """
    if alerts.is_empty():
        return table("pose_tracks").empty()
    ours = pl.col("feature_set") == work.site.settings.features.detector.version
    shown = pl.col("video_id").is_in(alerts["video_id"].unique().to_list())
    return work.lake.read("pose_tracks", days=[day], where=ours & shown)


def _with_kinds(
    work: Work,
    alerts: pl.DataFrame,
    videos: pl.DataFrame,
    predictions: pl.DataFrame,
    tracks: pl.DataFrame,
    before: pl.DataFrame,
) -> pl.DataFrame:
    """The alerts with the kind of each: by the track that raised it and the beds of that moment."""
    if alerts.is_empty():
        return alerts
    beds = work.lake.read("zones").filter(pl.col("kind") == "bed")
    crops = dict(work.lake.read("cameras", columns=["camera_id", "crop"]).iter_rows())
    starts = dict(videos.select("video_id", "start_utc").iter_rows())
    earlier = dict(before.drop_nulls("kind").select("alert_id", "kind").iter_rows())
    kinds = []
    for alert in alerts.iter_rows(named=True):
        at_s = (alert["raised_utc"] - starts[alert["video_id"]]).total_seconds()
        track = _raising_track(alert["video_id"], at_s, predictions, tracks)
        if track is None:
            kinds.append(earlier.get(alert["alert_id"], "fall"))
            continue
        zones = zones_at(beds, alert["camera_id"], alert["raised_utc"])
        crop = work.looked_at(crops.get(alert["camera_id"]))
        kinds.append(_kind(track, at_s, [_in_crop(zone, crop) for zone in zones["polygon"]]))
    return alerts.with_columns(pl.Series("kind", kinds, pl.String))


def _raising_track(
    video_id: str, at_s: float, predictions: pl.DataFrame, tracks: pl.DataFrame
) -> dict[str, Any] | None:
    """The row of `pose_tracks` of whose score an alert was raised; None where it is not known."""
    scored = predictions.filter(
        (pl.col("video_id") == video_id) & ((pl.col("end_s") - at_s).abs() < _SAME_MOMENT_S)
    )
    found = tracks.join(
        scored.select("video_id", "feature_set", "track"),
        on=["video_id", "feature_set", "track"],
        how="semi",
    )
    return found.row(0, named=True) if len(found) else None


def _kind(track: dict[str, Any], at_s: float, beds: list[NDArray[np.float64]]) -> Kind:
    keypoints = unpack_keypoints(track["keypoints"])
    times = track["start_s"] + np.arange(len(keypoints)) / track["rate_hz"]
    return kind_of(keypoints, times, at_s, beds, aspect=track["aspect"])


def _in_crop(polygon: str | None, crop: Crop) -> NDArray[np.float64]:
    """A zone's corners (n, 2) in shares of a part of the picture; they may lie outside it."""
    corners = np.array(json.loads(polygon) if polygon else _WHOLE_PICTURE, np.float64)
    low = np.array([crop.x0, crop.y0])
    shares: NDArray[np.float64] = (corners - low) / (np.array([crop.x1, crop.y1]) - low)
    return shares


def _with_stills(
    work: Work,
    day: date,
    alerts: pl.DataFrame,
    videos: pl.DataFrame,
    before: pl.DataFrame,
    tracks: pl.DataFrame,
) -> pl.DataFrame:
    """The alerts with the path of a still each; an alert without a picture is still an alert."""
    if alerts.is_empty():
        return alerts
    files = files_of(work, videos.filter(pl.col("video_id").is_in(alerts["video_id"].to_list())))
    starts = dict(videos.select("video_id", "start_utc").iter_rows())
    cameras = {row["camera_id"]: row for row in work.lake.read("cameras").iter_rows(named=True)}
    taken = dict(before.drop_nulls("still").select("alert_id", "still").iter_rows())
    stills: list[str | None] = []
    footage = work.footage
    for alert in alerts.iter_rows(named=True):
        at_s = (alert["raised_utc"] - starts[alert["video_id"]]).total_seconds()
        camera = cameras[alert["camera_id"]]
        crop = work.looked_at(camera["crop"])
        # From above the network takes other things for heads: the whole picture is made coarse.
        seen = camera["view"] != "ceiling"
        try:
            picture = still(
                footage.stage(files[alert["video_id"]]),
                at_s,
                keypoints=people_at(tracks, alert["video_id"], at_s) if seen else None,
                crop=(crop.x0, crop.y0, crop.x1, crop.y1),
            )
        except (FallAssetsError, OSError, KeyError) as error:
            why = "its footage is gone" if isinstance(error, KeyError) else error
            earlier = taken.get(alert["alert_id"])
            if earlier is None:
                work.log(f"alert {alert['alert_id']} has no still: {why}")
            stills.append(earlier)
            continue
        stills.append(work.lake.write_file(picture, "stills", f"{day}", f"{alert['alert_id']}.jpg"))
    return alerts.with_columns(pl.Series("still", stills, pl.String))


def people_at(tracks: pl.DataFrame, video_id: str, at_s: float) -> NDArray[np.float32] | None:
    """Key points (people, 17, 3) of everybody tracked at a moment; None where nobody is."""
    people = []
    for track in tracks.filter(pl.col("video_id") == video_id).iter_rows(named=True):
        place = round((at_s - track["start_s"]) * track["rate_hz"])
        if 0 <= place < track["samples"]:
            people.append(unpack_keypoints(track["keypoints"])[place])
    return np.stack(people) if people else None
