"""Sample by sample the engine comes to what the platform says of the whole film."""

from __future__ import annotations

import itertools
import math
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fall_assets.edge import engine as engine_module
from fall_assets.edge.engine import Alarm, StreamEngine
from fall_assets.edge.model import EdgeModel
from fall_assets.features.crop import Crop
from fall_assets.features.packing import pack_keypoints, unpack_keypoints
from fall_assets.features.people import People
from fall_assets.features.sampling import SampleClock
from fall_assets.features.tracking import Tracker
from fall_assets.learning.algorithms.base import Scores
from fall_assets.learning.detector import Detector
from fall_assets.learning.events import Event, EventSettings, to_events
from fall_assets.learning.windows import SegmentTracks, Track
from fall_assets_tests.edge.models import FEATURES, ScriptedPool
from fall_assets_tests.learning.people import figure

HZ = FEATURES.sample_hz
ASPECT = 4 / 3
FRAME = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
Script = Callable[[float], People]


@dataclass(frozen=True)
class Actor:
    """One person in front of the camera: from when to when, how well seen, and how they move."""

    from_s: float
    to_s: float
    weak_until_s: float
    fall_s: float
    x: float
    seed: int
    missed: float = 0.1

    def people(self, time_s: float) -> People:
        rng = np.random.default_rng((self.seed, round(time_s * 1000)))
        if not self.from_s <= time_s <= self.to_s or rng.random() < self.missed:
            return People.nobody()
        score = 0.15 if time_s < self.weak_until_s else 0.5
        tilt = float(np.clip((time_s - self.fall_s) / 0.8, 0, 1)) * 1.5
        points = figure(*(np.array([value], np.float32) for value in (tilt, 0.0, self.x)))
        points[..., :2] += rng.normal(0, 0.003, points[..., :2].shape).astype(np.float32)
        points[..., 2] = score
        low, high = points[0, :, :2].min(axis=0), points[0, :, :2].max(axis=0)
        box = np.concatenate([low, high, [score]]).astype(np.float32)[None]
        return People(points, box)


def scene(actors: Sequence[Actor], time_s: float) -> People:
    found = [actor.people(time_s) for actor in actors]
    return People(
        np.concatenate([np.zeros((0, 17, 3), np.float32), *(one.keypoints for one in found)]),
        np.concatenate([np.zeros((0, 5), np.float32), *(one.boxes for one in found)]),
    )


def offline(
    detector: Detector,
    times_s: Sequence[float],
    spans: Sequence[tuple[float, float]],
    script: Script,
    duration_s: float,
) -> tuple[Scores, list[Event]]:
    """As `features.extract`, the lake and `Detector` have it."""
    clock = SampleClock(FEATURES.sample_hz, FEATURES.max_wait_s)
    tracks: list[Track] = []
    for start_s, end_s in spans:
        clock.skip_to(start_s)
        tracker, known = None, 0
        for time_s in times_s:
            if not start_s <= time_s <= end_s or not (served := clock.serve(time_s)):
                continue
            if tracker is None:
                tracker, known = (
                    Tracker(FEATURES.pose.tracker, ASPECT, sample_hz=HZ, first=served.start),
                    served.start,
                )
            for _ in range(known, served.start):
                tracker.step(People.nobody())
            for _ in served:
                tracker.step(script(time_s))
            known = served.stop
        for one in tracker.finish() if tracker else []:
            points = unpack_keypoints(pack_keypoints(one.keypoints))
            tracks.append(Track(len(tracks), one.first, points))
    segment = SegmentTracks("ab" * 32, duration_s, HZ, ASPECT, tuple(tracks))
    scores = detector.scores(segment)
    ends, values = scores.end_s.tolist(), scores.score.tolist()
    return scores, to_events(ends, values, detector.events, detector.windows.window_s)


def online(
    model: EdgeModel,
    times_s: Sequence[float],
    spans: Sequence[tuple[float, float]],
    script: Script,
    duration_s: float,
    **how: object,
) -> tuple[StreamEngine, list[Alarm]]:
    """The same through the engine, frame by frame."""
    pool = ScriptedPool()
    engine = StreamEngine(model, pool, crop=Crop(), **{"keep_scores": True, **how})  # type: ignore[arg-type]
    alarms: list[Alarm] = []
    for start_s, end_s in spans:
        alarms += engine.idle_until(start_s)
        engine.begin(start_s)
        for time_s in times_s:
            if start_s <= time_s <= end_s:
                pool.script = iter([script(time_s)])
                found = engine.look(time_s, FRAME)
                assert all(alarm.known_s == time_s for alarm in found)
                alarms += found
        alarms += engine.end()
    return engine, alarms + engine.finish(duration_s)


def check(
    model: EdgeModel,
    detector: Detector,
    times_s: Sequence[float],
    spans: Sequence[tuple[float, float]],
    script: Script,
    duration_s: float,
) -> list[Alarm]:
    """Both ways give the same scores and events, and every event has its alarm."""
    wanted, events = offline(detector, times_s, spans, script, duration_s)
    engine, alarms = online(model, times_s, spans, script, duration_s)
    found = engine.scores
    assert found.end_s.tolist() == pytest.approx(wanted.end_s.tolist())
    assert found.score.tolist() == pytest.approx(wanted.score.tolist(), abs=1e-4)
    assert [who is None for who in found.track] == [who is None for who in wanted.track]
    told = to_events(
        found.end_s.tolist(), found.score.tolist(), detector.events, detector.windows.window_s
    )
    assert [event.raised_s for event in told] == [event.raised_s for event in events]
    last_s = found.end_s[-1] if len(found) else 0.0
    for event in events:
        assert any(event.raised_s <= alarm.raised_s <= event.end_s for alarm in alarms)
    for alarm in alarms:
        inside = any(one.raised_s - 1e-9 <= alarm.raised_s <= one.end_s + 1e-9 for one in events)
        assert inside or alarm.raised_s > last_s - 0.11
        # The last frame of a stretch stands for the time until the next one.
        assert alarm.known_s > alarm.raised_s - max(1 / HZ, times_s[1] - times_s[0]) - 1e-6
    return alarms


def frames(duration_s: float, fps: float, shift_s: float = 0.0) -> list[float]:
    return [round(number / fps + shift_s, 6) for number in range(int(duration_s * fps))]


ACTORS = st.lists(
    st.builds(
        Actor,
        from_s=st.floats(0, 10),
        to_s=st.floats(4, 20),
        weak_until_s=st.floats(0, 15),
        fall_s=st.floats(0, 20),
        x=st.sampled_from([0.2, 0.45, 0.7]),
        seed=st.integers(0, 9),
        missed=st.sampled_from([0.0, 0.1, 0.6]),
    ),
    max_size=3,
)
SPANS = st.lists(st.tuples(st.integers(0, 19), st.integers(1, 12)), max_size=3)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTORS, SPANS, st.sampled_from([4.0, 10.0, 25.0]), st.floats(6, 20))
@example([Actor(0.0, 4.0, 0.0, 0.0, 0.7, 0, 0.0)], [(0, 1)], 4.0, 6.0)
def test_scores_and_events_are_those_of_the_platform(
    edge_model: EdgeModel,
    detector: Detector,
    actors: list[Actor],
    starts: list[tuple[int, int]],
    fps: float,
    duration_s: float,
) -> None:
    spans, until = [], -1
    for start, length in sorted(starts):
        if start > until:
            until = start + length
            spans.append((float(start), float(until)))
    times_s = frames(duration_s, fps)
    spans = [span for span in spans if span[0] < times_s[-1]] or [(0.0, math.inf)]
    check(edge_model, detector, times_s, spans, partial(scene, actors), len(times_s) / fps)


def test_pictures_may_be_missing(edge_model: EdgeModel, detector: Detector) -> None:
    actor = Actor(0, 30, 0, 8, 0.4, 1)
    times_s = [t for t in frames(20, 10, 0.013) if not (6 < t < 6.9 or 12 < t < 16)]
    check(edge_model, detector, times_s, [(0.0, math.inf)], actor.people, 20.0)


def test_who_is_believed_late_is_scored_in_hindsight(
    edge_model: EdgeModel, detector: Detector
) -> None:
    actor = Actor(0, 40, weak_until_s=33.0, fall_s=10.0, x=0.4, seed=2, missed=0.0)
    alarms = check(edge_model, detector, frames(36, 10), [(0.0, math.inf)], actor.people, 36.0)
    late = [alarm for alarm in alarms if alarm.known_s > alarm.raised_s + 5]
    assert late
    assert all(alarm.known_s == 33.0 for alarm in late)


def test_memory_does_not_grow(edge_model: EdgeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody stays for ten thousand samples, another is only guessed at all the time."""
    monkeypatch.setattr(engine_module, "REMEMBER_S", 60.0)
    # What it says does not matter here, and the real one takes its time.
    monkeypatch.setattr(edge_model, "score_windows", lambda points, _: points[:, -1, 11, 1])
    stays = Actor(0, math.inf, 0, 5, 0.2, 1)
    guessed = Actor(0, math.inf, math.inf, 8, 0.7, 2, missed=0.0)
    shown = [scene([stays, guessed], time_s) for time_s in frames(20, 10)]
    engine = StreamEngine(edge_model, ScriptedPool(itertools.cycle(shown)), crop=Crop())
    engine.begin(0.0)
    sizes = []
    for number, time_s in enumerate(frames(1000, 10)):
        engine.look(time_s, FRAME)
        if number % 100 == 0:
            sizes.append(held(engine))
    assert engine.samples == 10_000
    assert max(sizes[20:]) <= max(sizes[:20])
    # All that was seen would be 2 MB by now.
    assert max(sizes) < 500_000
    with pytest.raises(ValueError, match="keep_scores"):
        _ = engine.scores


def held(what: object, known: set[int] | None = None) -> int:
    """Bytes of all arrays and containers of ours within something."""
    known = set() if known is None else known
    if id(what) in known or isinstance(what, EdgeModel | ScriptedPool | av.VideoFrame):
        return 0
    known.add(id(what))
    if isinstance(what, np.ndarray):
        return what.nbytes
    parts: list[object] = []
    if isinstance(what, dict):
        parts = [*what, *what.values()]
    elif isinstance(what, list | tuple | set | deque):
        parts = list(what)
    elif type(what).__module__.startswith("fall_assets."):
        parts = list(vars(what).values()) if hasattr(what, "__dict__") else []
    return sys.getsizeof(what) + sum(held(part, known) for part in parts)


def test_without_keeping_scores_alarms_are_the_same(edge_model: EdgeModel) -> None:
    script = partial(scene, [Actor(0, 99, 0, 30, 0.2, 1), Actor(3, 99, 41, 50, 0.7, 2)])
    ways = [
        online(edge_model, frames(80, 10), [(0.0, math.inf)], script, 80.0, keep_scores=keep)[1]
        for keep in (True, False)
    ]
    told = [[(one.raised_s, one.known_s, one.score) for one in alarms] for alarms in ways]
    assert told[0] == told[1]
    assert told[0]


def test_scores_of_a_long_stay_are_those_of_the_platform(
    edge_model: EdgeModel, detector: Detector
) -> None:
    actor = Actor(0, math.inf, 2, 40, 0.4, 3)
    check(edge_model, detector, frames(150, 10), [(0.0, math.inf)], actor.people, 150.0)


def test_an_alarm_says_its_kind_and_who_is_seen(edge_model: EdgeModel) -> None:
    """Who falls over the outline of a bed falls onto it."""
    model = _ever_alarming(edge_model)
    span = [(0.0, math.inf)]
    _, alarms = online(model, frames(10, 10), span, _onto_bed, 10.0, beds=[_bed()])
    told = [(alarm.raised_s, alarm.kind) for alarm in alarms]
    assert told == [(1.2, "fall"), (9.2, "fall_onto_bed")]
    keypoints = alarms[-1].keypoints
    assert keypoints is not None
    assert keypoints.shape == (1, 17, 3)


def test_beds_lie_in_the_part_that_is_looked_at(edge_model: EdgeModel) -> None:
    crop = Crop(0.5, 0.0, 1.0, 0.5)
    whole = _bed() * [0.5, 0.5] + [0.5, 0.0]
    for beds, kind in (([whole], "fall_onto_bed"), ([_bed()], "fall")):
        pool = ScriptedPool(_onto_bed(time_s) for time_s in frames(10, 10))
        engine = StreamEngine(_ever_alarming(edge_model), pool, crop=crop, beds=beds)
        engine.begin(0.0)
        alarms = [alarm for time_s in frames(10, 10) for alarm in engine.look(time_s, FRAME)]
        assert [alarm.kind for alarm in alarms] == ["fall", kind]


def test_a_frame_outside_of_a_stretch_is_refused(edge_model: EdgeModel) -> None:
    engine = StreamEngine(edge_model, ScriptedPool(), crop=Crop())
    with pytest.raises(ValueError, match="begin"):
        engine.look(0.0, FRAME)


def _onto_bed(time_s: float) -> People:
    """Falls at 6 s, and is lost for a moment at 8.5 s, so that an alarm is raised anew."""
    if 8.45 < time_s < 8.75:
        return People.nobody()
    return Actor(0, 20, 0, 6, 0.4, 1, missed=0.0).people(time_s)


def _bed() -> NDArray[np.float64]:
    """The outline below the hips of who fell."""
    hips = _onto_bed(9.0).keypoints[0, 11:13, :2].mean(axis=0)
    outline: NDArray[np.float64] = hips + np.array(
        [[-0.1, -0.05], [0.1, -0.05], [0.1, 0.1], [-0.1, 0.1]]
    )
    return outline


def _ever_alarming(model: EdgeModel) -> EdgeModel:
    """Raises an alarm wherever somebody is seen twice."""
    events = EventSettings(threshold=1e-9, release_share=1.0, certain=1.0, merge_gap_s=0.0)
    return EdgeModel(replace(model.info, events=events), model.folder, model._session)
