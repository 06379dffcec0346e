"""Operation: the champion scores each day's footage, and alerts go to the ward."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
from fall_assets.pipeline.models import champion
from fall_assets.pipeline.work import Work

if TYPE_CHECKING:
    from fall_assets.learning.detector import Detector
    from fall_assets.learning.events import Event

# Times go through microseconds and back.
_SAME_MOMENT_S = 0.005
_WHOLE_PICTURE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


def predict(work: Work, day: date) -> pl.DataFrame:
    """Score the day's segments with the champion.

    Raises:
        PermanentFailureError: no champion is registered, or the day's features are of another
            feature set than the champion's.
    """
    detector, version = champion(work.site)
    videos = work.lake.read("videos", days=[day])
    featured = work.lake.read("features", days=[day], columns=["video_id", "feature_set"])
    ready = featured.filter(pl.col("feature_set") == detector.feature_set)["video_id"].unique()
    if len(featured) and not len(ready):
        raise PermanentFailureError(
            f"{day} has no features of feature set {detector.feature_set}, which champion "
            f"{version} needs: train and register a model on the current feature set"
        )
    tracks = work.lake.read("pose_tracks", days=[day]).filter(
        pl.col("feature_set") == detector.feature_set
    )
    rows = [table("predictions").empty()]
    for video in videos.filter(pl.col("video_id").is_in(ready.to_list())).iter_rows(named=True):
        own = tracks.filter(pl.col("video_id") == video["video_id"])
        scores = detector.scores(segment_tracks(video["video_id"], video["duration_s"], own))
        rows.append(
            pl.DataFrame(
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
        )
    predictions = pl.concat(rows)
    work.lake.replace_partition("predictions", day, predictions, work.provenance(day))
    return predictions


@dataclass(frozen=True)
class AlertDay:
    """One day's alerts and the attempts to deliver them that this call made."""

    alerts: pl.DataFrame
    attempts: pl.DataFrame


def raise_alerts(work: Work, day: date, channels: Sequence[Channel] | None = None) -> AlertDay:
    """Merge the day's scores into alerts, say their kinds, take stills, and deliver what is new.

    An event is one alert however often the day is recomputed, and keeps its still where its footage
    is gone, its kind where its key points are. The site's settings say which kinds each ward is
    told of. `channels` defaults to the log and, where one is configured, the webhook.
    """
    detector, version = champion(work.site)
    around = [day + timedelta(days=offset) for offset in (-1, 0, 1)]
    predictions = work.lake.read("predictions", days=around).filter(
        pl.col("model_version") == version
    )
    videos = work.lake.read("videos", days=around)
    predictions = predictions.filter(pl.col("video_id").is_in(videos["video_id"].to_list()))
    before = work.lake.read("alerts", days=around)
    alerts = merge(
        predictions,
        videos,
        work.lake.read("cameras"),
        settings=detector.events,
        previous=before,
        window_s=detector.windows.window_s,
        day=day,
    )
    tracks = _tracks(work, day, alerts)
    alerts = _with_kinds(work, alerts, videos, predictions, tracks, before)
    alerts = _with_stills(work, day, alerts, videos, before, tracks)
    work.lake.replace_partition("alerts", day, alerts, work.provenance(day))
    attempts = deliver(
        alerts,
        work.lake.read("alert_deliveries"),
        _channels(work) if channels is None else channels,
        now=lambda: datetime.now(UTC),
        settings=_choice(work),
        record=lambda row: work.lake.append("alert_deliveries", row, work.provenance()),
    )
    return AlertDay(alerts, attempts)


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
