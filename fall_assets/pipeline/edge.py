"""The package for the boxes: built from a registered version, compared with it, then published.

What belongs here: what the lake and the registry know of it. What does not: making the package
(`delivery.edge_build`, `delivery.onnx_export`) and running it (`edge`).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fall_assets.delivery.edge_choice import Judged, choose
from fall_assets.delivery.gateway import GatewayRefusedError
from fall_assets.errors import PermanentFailureError
from fall_assets.features.segments import VideoRef
from fall_assets.footage.probe import probe
from fall_assets.lake.registry import PRECISIONS, one_row, table
from fall_assets.learning.scoring import score_tracks
from fall_assets.learning.windows import segment_tracks
from fall_assets.lineage import code_version
from fall_assets.pipeline.files import files_of
from fall_assets.pipeline.models import tracking
from fall_assets.pipeline.serving import Part
from fall_assets.pipeline.training_sets import open_training_set
from fall_assets.pipeline.work import Work
from fall_assets.processes import Failed, Message, Program, receive_json, spread
from fall_assets.site import project_root

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from fall_assets.edge.model import EdgeModel
    from fall_assets.edge.parity import FileScores
    from fall_assets.features.settings import FeatureSettings
    from fall_assets.learning.algorithms.base import Scores
    from fall_assets.learning.dataset import LearningSet
    from fall_assets.learning.detector import Detector

KEY_VARIABLE = "FALL_SIGNING_KEY"
CACHE_FOLDER = Path("data") / "cache" / "edge"
ALL_CAMERAS = "*"
"""In an assignment: all cameras that no other live part names; of a shadow: all."""
KEYS_FOLDER, PRIVATE_KEY, PUBLIC_KEY = "keys", "edge-signing.pem", "edge-signing.pub.pem"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMED = 100
_NAMED = 5
_SHORTEST_S, _TIMES = 300.0, 20.0
"""A segment that takes longer than so long and so many times its length hangs."""


class ParityError(PermanentFailureError):
    """The package does not score as its model does; the message names the segments."""


@dataclass(frozen=True)
class Packaged:
    """A package that stands in the lake: its row, and those of its variants and segments."""

    package: Mapping[str, Any]
    variants: pl.DataFrame
    parity: pl.DataFrame
    is_new: bool


def build_edge_package(work: Work, model: str | None = None) -> Packaged:
    """Package a registered version (default: the newest) and publish it in the lake.

    Every number format of the network is judged on the labelled footage of the newest training
    set; `edge_choice.choose` decides. Then the package's own program scores every segment of it,
    with its own decoder, and is compared with the framework on the lake's features. A version that
    this code has packaged already is not packaged again.

    Raises:
        ParityError: a score differs by more than 1e-4, or an event is another.
        PermanentFailureError: no version is registered, or its feature set is not the site's.
    """
    from fall_assets.delivery.edge_build import (
        PackageVersions,
        build_package,
        build_runtime,
        runtime_id,
    )
    from fall_assets.delivery.onnx_export import export_head, write_model
    from fall_assets.edge.model import HEAD_FILE, EdgeModel
    from fall_assets.features.movenet import pose_network_path

    version, run_id = _registered(work, model)
    detector = tracking(work.site).load_detector(run_id)
    settings = work.site.settings.features.detector
    detector.check_feature_set(settings.version)
    learning_set = open_training_set(work).read()[1]
    staging = work.lake.file("edge", ".staging")
    staging.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=staging) as folder:
        place = Path(folder)
        runtime = build_runtime(
            place / "runtime", cache=project_root() / CACHE_FOLDER, log=work.log
        )
        made_from = runtime_id(runtime)
        known = _packaged_before(work, version, made_from)
        if known is not None:
            return known
        formats: dict[str, EdgeModel] = {}
        export_head(detector, place / HEAD_FILE)
        for precision in PRECISIONS:
            head = place / precision
            write_model(
                detector,
                version,
                settings,
                pose_network_path(),
                head,
                precision,
                exported=place / HEAD_FILE,
            )
            formats[precision] = EdgeModel.load(head)
        window_ms = _window_ms(formats)
        judged = [
            _judge(precision, packaged, detector, learning_set, window_ms[precision])
            for precision, packaged in formats.items()
        ]
        choice = choose(judged)
        sequence = _next_sequence(work)
        built = build_package(
            place / choice.precision,
            runtime,
            place / "package",
            sequence=sequence,
            versions=PackageVersions(version, settings.version, code_version()),
            key=signing_key(work),
            framework=_framework(detector, settings) if choice.precision == "float32" else None,
            log=work.log,
        )
        program = built.directory / "fall-edge" / "fall-edge"
        start_s = _start_s(program, built.directory)
        subjects = _subjects(work, detector, learning_set)
        parity = _compare(work, program, place / "float32", subjects, detector)
        if choice.precision != "float32":
            _compare(work, program, place / choice.precision, subjects, detector, events_only=True)
        archive = work.lake.file("edge", f"{built.archive_sha256}.tar.gz")
        os.replace(built.archive, archive)  # noqa: PTH105 - says what is meant: at once
    row = {
        "sequence": sequence,
        "model_version": version,
        "runtime": made_from,
        "feature_set": detector.feature_set,
        "built_utc": datetime.now(UTC),
        "precision": choice.precision,
        "archive": archive.relative_to(work.lake.root).as_posix(),
        "archive_sha256": built.archive_sha256,
        "archive_bytes": archive.stat().st_size,
        "manifest_sha256": built.manifest_sha256,
        "unpacked_bytes": built.size,
        "start_s": start_s,
        "segments": parity.height,
        "windows": int(parity["windows"].sum()),
        "largest_difference": float(parity.select(pl.col("largest_difference").max()).item() or 0),
        "reason": choice.reason,
    }
    variants = pl.DataFrame(
        [
            {"sequence": sequence, "chosen": one.precision == choice.precision, **asdict(one)}
            for one in judged
        ],
        schema=table("edge_variants").schema,
    )
    parity = parity.with_columns(sequence=pl.lit(sequence)).select(
        list(table("edge_parity").schema)
    )
    # A run that was killed in between left rows under this sequence: they are replaced.
    work.lake.upsert("edge_variants", variants, work.provenance())
    work.lake.upsert("edge_parity", parity, work.provenance())
    # By this row the package counts as published: it comes last.
    work.lake.append("edge_package", one_row("edge_package", row), work.provenance())
    return Packaged(row, variants, parity, is_new=True)


def signing_key(work: Work) -> Ed25519PrivateKey:
    """The key that signs packages and assignments.

    FALL_SIGNING_KEY names its file; else it is the site's own, which is made when it is first
    needed, with the public key beside it.

    Raises:
        KeyFileError: others may read the file, or it holds no such key.
    """
    from fall_assets.edge.signing import generate_key, load_private_key

    told = os.environ.get(KEY_VARIABLE)
    if told:
        return load_private_key(Path(told))
    private, public = (work.site.root / KEYS_FOLDER / name for name in (PRIVATE_KEY, PUBLIC_KEY))
    if not private.exists():
        private.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        generate_key(private, public)
    return load_private_key(private)


def newest_package(work: Work, model: str | None = None) -> Mapping[str, Any]:
    """The row of the newest package, or of the newest one of a version.

    Raises:
        PermanentFailureError: there is none.
    """
    rows = work.lake.read("edge_package").sort("sequence")
    if model is not None:
        rows = rows.filter(pl.col("model_version") == model)
    if rows.is_empty():
        of = f" of version {model}" if model else ""
        raise PermanentFailureError(f"no package{of} was built yet: materialize edge_package")
    return rows.row(-1, named=True)


def assign(
    work: Work,
    box: str,
    package: Mapping[str, Any],
    *,
    cameras: Sequence[str] = ("*",),
    allow_older: bool = False,
) -> dict[str, Any]:
    """Sign an assignment of one package to a box and send it; see `assign_parts`.

    `cameras` are ids; '*' is all.
    """
    version = str(package["model_version"])
    named = None if ALL_CAMERAS in cameras else tuple(cameras)
    part = Part(version, named, shadow=False)
    return assign_parts(work, box, [part], {version: package}, allow_older=allow_older)


def assign_parts(
    work: Work,
    box: str,
    parts: Sequence[Part],
    packages: Mapping[str, Mapping[str, Any]],
    *,
    allow_older: bool = False,
    issued_utc: datetime | None = None,
) -> dict[str, Any]:
    """Sign one assignment of several versions to a box and send it.

    Returns what was signed. The archives are sent first, so that no box is told of what it cannot
    fetch. Cameras whose ids no box can have are left out, and parts without cameras.

    Args:
        work: the site.
        box: its id; '*': all boxes that have no newer assignment of their own. Each box takes what
            concerns its own cameras.
        parts: versions and their cameras, live and in shadow.
        packages: of each version its row of `edge_package`.
        allow_older: boxes may go from a package to one that was built before it. Needed to go back
            to a version that does not run on the box any more, not even in shadow; also where the
            champion was packaged anew after its challenger.
        issued_utc: when it was decided, default now. Later ones replace earlier ones; the same one
            may be sent again. Where the gateway refuses it, as it has one that was issued since
            (by hand), this one is issued now.

    Raises:
        GatewayAwayError: the gateway is not there.
        PermanentFailureError: the site has no gateway, a version has no package or its archive is
            gone, nobody would raise alerts, or so many cameras are named that no box would read it.
    """
    from fall_assets.edge.client import MOST_ASSIGNMENT_BYTES
    from fall_assets.edge.signing import sign
    from fall_assets.pipeline.gateway import open_gateway

    archives: dict[str, Path] = {}
    told_parts = []
    for part in parts:
        package = packages.get(part.model_version)
        if package is None:
            raise PermanentFailureError(
                f"version {part.model_version} has no package: materialize edge_package"
            )
        cameras = _for_boxes(work, part)
        if not cameras:
            continue
        archive = work.lake.resolve(package["archive"])
        if not archive.is_file():
            raise PermanentFailureError(f"the archive {archive} is gone: build the package again")
        archives[package["archive_sha256"]] = archive
        told_parts.append(
            {
                "archive_sha256": package["archive_sha256"],
                "archive_size": package["archive_bytes"],
                "manifest_sha256": package["manifest_sha256"],
                "model_version": package["model_version"],
                "sequence": package["sequence"],
                "cameras": cameras,
                "shadow": part.shadow,
            }
        )
    if all(part["shadow"] for part in told_parts):
        raise PermanentFailureError("no box would raise an alert: assign a version that is live")
    key = signing_key(work)

    def issue(issued: datetime) -> tuple[dict[str, Any], bytes]:
        assignment = {
            "format": 1,
            "box": box,
            # Grows with time, also where the lake was restored from an older copy.
            "serial": (issued - _EPOCH) // timedelta(milliseconds=1),
            "issued_utc": issued.isoformat(timespec="milliseconds"),
            "allow_older": allow_older,
            "parts": told_parts,
        }
        return assignment, json.dumps(assignment, sort_keys=True, separators=(",", ":")).encode()

    assignment, told = issue((issued_utc or datetime.now(UTC)).astimezone(UTC))
    if len(told) > MOST_ASSIGNMENT_BYTES:
        raise PermanentFailureError(
            f"the assignment has {len(told)} bytes and boxes read {MOST_ASSIGNMENT_BYTES}: assign "
            "box by box, each only its own cameras"
        )
    with open_gateway(work) as gateway:
        for sha256, archive in archives.items():
            gateway.put_package(archive, sha256)
        try:
            gateway.put_assignment(box, told, sign(told, key))
        except GatewayRefusedError as error:
            if issued_utc is None:
                raise
            work.log(f"the assignment of {issued_utc.isoformat()} is issued anew: {error}")
            assignment, told = issue(datetime.now(UTC))
            gateway.put_assignment(box, told, sign(told, key))
    return assignment


def _for_boxes(work: Work, part: Part) -> list[str]:
    """A part's cameras as an assignment names them; a box refuses one with an id that is none."""
    from fall_assets.edge.config import ID

    if part.cameras is None:
        return [ALL_CAMERAS]
    unfit = [camera for camera in part.cameras if not ID.fullmatch(camera)]
    if unfit:
        work.log(f"no box can have these cameras, they are not assigned: {', '.join(unfit[:5])}")
    return [camera for camera in part.cameras if ID.fullmatch(camera)]


def _registered(work: Work, model: str | None) -> tuple[str, str]:
    """Version and run of what is packaged."""
    if model is not None:
        return model, tracking(work.site).version(model).run_id
    rows = work.lake.read("registered_model").sort("registered_utc")
    if rows.is_empty():
        raise PermanentFailureError("no version is registered yet: materialize registered_model")
    newest = rows.row(-1, named=True)
    return newest["model_version"], newest["run_id"]


def _next_sequence(work: Work) -> int:
    newest = work.lake.scan("edge_package").select(pl.col("sequence").max()).collect().item()
    return int(newest or 0) + 1


def _packaged_before(work: Work, version: str, runtime_id: str) -> Packaged | None:
    rows = work.lake.read("edge_package").filter(
        pl.col("model_version") == version, pl.col("runtime") == runtime_id
    )
    if rows.is_empty():
        return None
    row = rows.sort("sequence").row(-1, named=True)
    if not work.lake.resolve(row["archive"]).is_file():
        return None
    of_it = pl.col("sequence") == row["sequence"]
    variants, parity = (
        work.lake.read(name).filter(of_it) for name in ("edge_variants", "edge_parity")
    )
    return Packaged(row, variants, parity, is_new=False)


def _start_s(program: Path, package: Path) -> float:
    """Seconds from the program's start until it has scored its bundled clip and ended."""
    started = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - built by this run
        [str(program), "self-test", "--package", str(package)],
        capture_output=True,
        text=True,
        timeout=_SHORTEST_S,
        check=False,
    )
    if done.returncode:
        raise ParityError(f"the package fails its self-test: {done.stderr.strip()[-500:]}")
    return time.perf_counter() - started


# Number formats -------------------------------------------------------------------------------


def _judge(
    precision: str,
    packaged: EdgeModel,
    detector: Detector,
    learning_set: LearningSet,
    window_ms: float,
) -> Judged:
    """What a number format makes of the set's labelled footage."""
    from fall_assets.edge.model import HEAD_FILE
    from fall_assets.learning.metrics import operating_curve

    window_s, videos, apart = detector.windows.window_s, [], 0.0
    for truth in learning_set.reviewed:
        tracks = learning_set.tracks[truth.video_id]
        mine, theirs = (
            score_tracks(tracks, detector.windows, one.score_windows)
            for one in (packaged, detector)
        )
        apart = max(apart, float(np.abs(mine.score - theirs.score).max(initial=0.0)))
        videos.append(truth.scored(mine.end_s.tolist(), mine.score.tolist(), window_s))
    point = operating_curve(videos, detector.events, [detector.threshold])[0]
    return Judged(
        precision=precision,
        falls=point.falls,
        found=point.found,
        false_alarms=point.false_alarms,
        largest_difference=apart,
        window_ms=window_ms,
        head_bytes=(packaged.folder / HEAD_FILE).stat().st_size,
    )


def _window_ms(formats: Mapping[str, EdgeModel]) -> dict[str, float]:
    """Median time of one window in each format, scored by itself as on a box.

    The formats take turns, so that what else the machine does meets all of them alike.
    """
    rng = np.random.default_rng(0)
    took: dict[str, list[float]] = {precision: [] for precision in formats}
    samples = {precision: one.info.windows.samples for precision, one in formats.items()}
    windows = {each: rng.random((1, n, 17, 3), np.float32) for each, n in samples.items()}
    aspect = np.full(1, 16 / 9, np.float32)
    for _ in range(_TIMED):
        for precision, packaged in formats.items():
            started = time.perf_counter()
            packaged.score_windows(windows[precision], aspect)
            took[precision].append(time.perf_counter() - started)
    return {precision: statistics.median(each) * 1000 for precision, each in took.items()}


# Parity ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Subject:
    """One segment of the evaluation, and what the framework makes of it."""

    video_id: str
    camera_id: str
    path: Path
    duration_s: float
    crop: str | None
    stretches: list[tuple[float, float]]
    theirs: FileScores

    def __str__(self) -> str:
        return f"{self.path.name} of {self.camera_id}"


def _subjects(work: Work, detector: Detector, learning_set: LearningSet) -> list[_Subject]:
    """Every segment that the set's clips lie in and whose footage is there."""
    ids = [truth.video_id for truth in learning_set.reviewed]
    videos = work.lake.read("videos", where=pl.col("video_id").is_in(ids))
    days = videos["day"].unique().to_list()
    files = files_of(work, videos)
    crops = dict(work.lake.read("cameras", columns=["camera_id", "crop"]).iter_rows())
    of_set = (pl.col("feature_set") == detector.feature_set) & pl.col("video_id").is_in(ids)
    tracks = work.lake.read("pose_tracks", days=days, where=of_set)
    gates = work.lake.read("motion_gate", days=days, where=pl.col("video_id").is_in(ids))
    opened = {
        row["video_id"]: [(start, end) for start, end, _ in json.loads(row["stretches"])]
        for row in gates.iter_rows(named=True)
    }
    by_video = tracks.partition_by("video_id", as_dict=True)
    subjects = []
    for video in videos.sort("camera_id", "start_utc").iter_rows(named=True):
        video_id = video["video_id"]
        if video_id not in files:
            continue
        own = by_video.get((video_id,), tracks.clear())
        scores = detector.scores(segment_tracks(video_id, video["duration_s"], own))
        subjects.append(
            _Subject(
                video_id,
                video["camera_id"],
                work.footage.stage(files[video_id]),
                video["duration_s"],
                crops.get(video["camera_id"]),
                opened.get(video_id, [(0.0, video["duration_s"])]),
                _told(scores, detector),
            )
        )
    return subjects


def _framework(detector: Detector, settings: FeatureSettings) -> Callable[[Path], FileScores]:
    """Scores a film as the framework does, all of it looked at."""
    from fall_assets.features.extract import Team, extract

    team = Team.of([replace(settings, gate=None)])

    def score(path: Path) -> FileScores:
        probed = probe(path)
        video = VideoRef(path, probed.video_id, "self-test", datetime.now(UTC).date())
        tracks = extract(video, team).pose_tracks
        scores = detector.scores(segment_tracks(probed.video_id, probed.duration_s, tracks))
        return _told(scores, detector)

    return score


def _told(scores: Scores, detector: Detector) -> FileScores:
    """The framework's scores of a segment, as the package tells its own."""
    from fall_assets.edge.parity import FileScores
    from fall_assets.learning.events import to_events

    end_s, score = scores.end_s.tolist(), scores.score.tolist()
    events = to_events(end_s, score, detector.events, detector.windows.window_s)
    return FileScores(tuple(end_s), tuple(score), scores.track, tuple(events))


def _compare(
    work: Work,
    program: Path,
    model: Path,
    subjects: Sequence[_Subject],
    detector: Detector,
    *,
    events_only: bool = False,
) -> pl.DataFrame:
    """Score all segments with the package's program and compare; rows of `edge_parity`.

    Raises:
        ParityError: naming the first few segments that differ.
    """
    from fall_assets.edge.parity import FileScores, compare

    rows, wrong = [], []
    progress = work.progress("package against model")
    scored = _score(program, model, subjects, work.site.settings.features.workers)
    for done, (subject, told) in enumerate(scored, start=1):
        if isinstance(told, Failed):
            wrong.append(f"{subject}: {told.error}")
            continue
        mine = FileScores.from_dict(told)
        found = compare(mine, subject.theirs, tolerance=1.0 if events_only else 1e-4)
        if found:
            wrong.append(f"{subject}: {found[0]}")
            continue
        apart = np.abs(np.subtract(mine.score, subject.theirs.score))
        rows.append(
            {
                "video_id": subject.video_id,
                "camera_id": subject.camera_id,
                "windows": len(mine.end_s),
                "largest_difference": float(apart.max(initial=0.0)),
                "events": len(mine.events),
                "known_late_s": max((_late_s(one) for one in told["alarms"]), default=None),
            }
        )
        progress(done, len(subjects))
    if wrong:
        raise ParityError(
            f"the package differs from its model on {len(wrong)} of {len(subjects)} segments, "
            f"nothing was published. First: {'; '.join(wrong[:_NAMED])}"
        )
    schema = {
        name: kind for name, kind in table("edge_parity").schema.items() if name != "sequence"
    }
    return pl.DataFrame(rows, schema=schema).sort("camera_id", "video_id")


def _late_s(alarm: Message) -> float:
    """How long after its moment an alarm was known; a window reaches to its last sample's end."""
    return max(float(alarm["known_s"] - alarm["raised_s"]), 0.0)


def _score(
    program: Path, model: Path, subjects: Sequence[_Subject], workers: int
) -> Iterator[tuple[_Subject, Message | Failed]]:
    """Each segment's scores (`FileScores.as_dict`), by the package's program, as they come."""
    spoken: Program[_Subject, Message] = Program(
        command=(str(program), "score-worker"),
        greeting={"model": str(model)},
        describe=lambda subject: {
            "path": str(subject.path),
            "crop": subject.crop,
            "duration_s": subject.duration_s,
            "stretches": subject.stretches,
        },
        receive=receive_json,
        name="the packaged program",
        deadline_s=lambda subject: _SHORTEST_S + _TIMES * subject.duration_s,
    )
    return spread(spoken, subjects, workers=workers)
