"""What all algorithms keep to, each on what it looks at of the same drawn people."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fall_assets.features.settings import PictureSettings
from fall_assets.learning.algorithms.base import (
    Algorithm,
    AlgorithmSettings,
    FitContext,
    MissingInputError,
    Model,
    Plan,
)
from fall_assets.learning.algorithms.ensemble import EnsembleSettings, MemberSettings
from fall_assets.learning.algorithms.files import ModelFileError
from fall_assets.learning.algorithms.registry import (
    ALGORITHMS,
    AlgorithmError,
    as_values,
    build,
    settings_of,
)
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.evaluate import NotServableError, cross_validate, train_final
from fall_assets.learning.inputs import SegmentInputs
from fall_assets.learning.training import TooLittleDataError
from fall_assets.learning.windows import WindowSettings, scored_ends
from fall_assets_tests.learning.algorithms.drawn import (
    every_segment,
    learned,
    ranked,
    small_set,
    with_embeddings,
    with_films,
    with_motion,
)
from fall_assets_tests.learning.people import SEGMENT_S

WINDOWS = WindowSettings()
PLAN = Plan(7, frozenset({0, 1}))
_TREES = {"trees": 40, "leaves": 7, "least_in_leaf": 5}
_SMALL = {"steps": 60, "batch": 32, "average": 0.9}
_POSE = {**_SMALL, "examples": 1500, "width": 16, "layers": 1, "learning_rate": 4e-3}

SMALL: dict[str, dict[str, Any]] = {
    "pose-gru": _POSE,
    "pose-transformer": {**_POSE, "heads": 2},
    "motion-boosting": _TREES,
    "embedding-tcn": {**_SMALL, "reduced": 8, "width": 12, "dilations": [1, 1]},
    "video-network": {
        "network": "tiny",
        "weights": "random",
        "frames": 8,
        "picture": {"long_side": 32},
        "steps": 60,
        "batch": 16,
        "learning_rate": 4e-3,
        "body_rate": 1.0,
        "average": 0.9,
        "threads": 1,
    },
    "ensemble": {
        "members": [
            {"algorithm": "motion-boosting", "settings": _TREES},
            {"algorithm": "pose-gru", "settings": _POSE, "weight": 2.0},
        ]
    },
}


@dataclass(frozen=True)
class Case:
    """One algorithm, its set to learn from, and a model of it."""

    name: str
    settings: AlgorithmSettings
    algorithm: Algorithm
    drawn: LearningSet
    model: Model


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LearningSet]:
    people = small_set()
    motion = with_motion(people)
    return {
        "pose-gru": people,
        "pose-transformer": people,
        "motion-boosting": motion,
        "embedding-tcn": with_embeddings(people),
        "video-network": with_films(people, tmp_path_factory.mktemp("films")),
        "ensemble": motion,
    }


@pytest.fixture(scope="module", params=sorted(SMALL))
def case(request: pytest.FixtureRequest, drawn: dict[str, LearningSet]) -> Case:
    name: str = request.param
    settings = settings_of(name, SMALL[name])
    algorithm = build(name, settings)
    (model,) = algorithm.fit(drawn[name], [PLAN], FitContext(WINDOWS, device="cpu"))
    return Case(name, settings, algorithm, drawn[name], model)


def _same(one: Model, other: Model, segments: list[SegmentInputs]) -> None:
    for segment in segments:
        np.testing.assert_array_equal(one.scores(segment).score, other.scores(segment).score)


def test_every_algorithm_is_tried_here() -> None:
    # pose-tcn has tests of its own, a level up.
    assert {*SMALL, "pose-tcn"} == set(ALGORITHMS)


def test_it_learns_to_tell_falls_of_footage_that_it_has_not_seen(case: Case) -> None:
    validation = cross_validate(case.drawn, learned(case.name, case.settings))
    assert len(validation.videos) == len(case.drawn.reviewed)
    assert ranked(validation) > 0.85


def test_it_scores_the_windows_that_every_algorithm_scores(case: Case) -> None:
    for segment in every_segment(case.drawn)[:3]:
        scores = case.model.scores(segment)
        assert scores.end_s.tolist() == scored_ends(SEGMENT_S, WINDOWS)
        assert len(scores.track) == len(scores)
        assert ((scores.score >= 0) & (scores.score <= 1)).all()


def test_a_saved_model_scores_the_same(case: Case, tmp_path: Path) -> None:
    case.model.save(tmp_path)
    loaded = case.algorithm.load(tmp_path)
    assert loaded.parameters == case.model.parameters > 0
    _same(case.model, loaded, every_segment(case.drawn)[:4])
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pt", ".pth")]


def test_a_combined_model_is_saved_as_well(case: Case, tmp_path: Path) -> None:
    plans = [PLAN, Plan(8, frozenset({0, 1}))]
    models = case.algorithm.fit(case.drawn, plans, FitContext(WINDOWS, device="cpu"))
    together = case.algorithm.combine(models)
    together.save(tmp_path)
    _same(together, case.algorithm.load(tmp_path), every_segment(case.drawn)[:2])
    assert together.parameters == sum(model.parameters for model in models)
    segment = every_segment(case.drawn)[0]
    each = np.stack([model.scores(segment).score for model in models])
    score = together.scores(segment).score
    assert ((score >= each.min(axis=0) - 1e-6) & (score <= each.max(axis=0) + 1e-6)).all()


def test_the_same_seed_gives_the_same_model_and_another_does_not(case: Case) -> None:
    context = FitContext(WINDOWS, device="cpu")
    again, other = case.algorithm.fit(case.drawn, [PLAN, replace(PLAN, seed=99)], context)
    segments = every_segment(case.drawn)[:4]
    # The model of a plan does not depend on what other plans there are.
    _same(case.model, again, segments)
    scores = [np.concatenate([m.scores(s).score for s in segments]) for m in (again, other)]
    assert not np.array_equal(scores[0], scores[1])


def test_a_score_depends_on_its_window_alone(case: Case) -> None:
    segment = every_segment(case.drawn)[0]
    whole = case.model.scores(segment)
    shorter = replace(segment, duration_s=6.0)
    if shorter.tracks is not None:
        shorter = replace(shorter, tracks=replace(shorter.tracks, duration_s=6.0))
    part = case.model.scores(shorter)
    assert part.end_s.tolist() == whole.end_s[: len(part)].tolist()
    np.testing.assert_allclose(part.score, whole.score[: len(part)], atol=1e-5)


def test_other_folds_teach_nothing(drawn: dict[str, LearningSet]) -> None:
    # Pose algorithms draw examples of all folds first: which, depends on how many there are.
    for name in ("motion-boosting", "embedding-tcn", "video-network"):
        own = drawn[name]
        algorithm = build(name, settings_of(name, SMALL[name]))
        less = own.with_clips(own.clips.filter(own.clips["fold"] != 2))
        context = FitContext(WINDOWS, device="cpu")
        models = [algorithm.fit(one, [PLAN], context)[0] for one in (own, less)]
        _same(models[0], models[1], every_segment(own)[:4])


def test_what_was_not_read_is_named(case: Case) -> None:
    kinds = {"pose": "tracks", "motion": "stretches", "embedding": "stretches", "frames": "path"}
    for kind in sorted(case.algorithm.needs):
        missing: dict[str, Any] = {kinds[kind]: None}
        segment = replace(every_segment(case.drawn)[0], **missing)
        with pytest.raises(MissingInputError, match=segment.video_id):
            case.model.scores(segment)
    if case.algorithm.needs != {"pose"}:
        bare = replace(case.drawn, stretches=None, films=None)
        with pytest.raises(MissingInputError):
            case.algorithm.fit(bare, [PLAN], FitContext(WINDOWS, device="cpu"))


def test_without_a_fall_there_is_nothing_to_learn(case: Case) -> None:
    clips = case.drawn.clips
    quiet = case.drawn.with_clips(clips.filter(clips["target"] == 0))
    with pytest.raises(TooLittleDataError, match="holds a fall"):
        case.algorithm.fit(quiet, [PLAN], FitContext(WINDOWS, device="cpu"))


@pytest.mark.parametrize("damage", ["content", "settings", "nothing"])
def test_a_damaged_model_is_refused(case: Case, tmp_path: Path, damage: str) -> None:
    case.model.save(tmp_path)
    for path in sorted(tmp_path.rglob("*")):
        if damage == "content" and path.suffix in (".txt", ".safetensors"):
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        if damage == "settings" and path.name == "model.json":
            path.write_text(path.read_text().replace(case.name, "another"))
        if damage == "nothing" and path.is_file():
            path.unlink()
    with pytest.raises(ModelFileError):
        case.algorithm.load(tmp_path)


def test_settings_survive_as_plain_values(case: Case) -> None:
    assert settings_of(case.name, as_values(case.settings)) == case.settings


def test_progress_ends_at_its_end(case: Case) -> None:
    told: list[tuple[int, int]] = []
    context = FitContext(WINDOWS, device="cpu", progress=lambda *step: told.append(step))
    case.algorithm.fit(case.drawn, [PLAN], context)
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_only_detectors_are_served(drawn: dict[str, LearningSet]) -> None:
    settings = learned("motion-boosting", settings_of("motion-boosting", _TREES))
    with pytest.raises(NotServableError, match="motion-boosting"):
        train_final(drawn["motion-boosting"], settings, 0.5)


@pytest.mark.parametrize("name", ["pose-gru", "pose-transformer"])
def test_networks_behind_the_pose_are_small(name: str, drawn: dict[str, LearningSet]) -> None:
    settings = settings_of(name, {"steps": 1, "examples": 64})
    context = FitContext(WINDOWS, device="cpu")
    (model,) = build(name, settings).fit(drawn[name], [PLAN], context)
    assert 20_000 < model.parameters < 300_000


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("pose-gru", {"steps": 0}, "steps"),
        ("pose-transformer", {"width": 30}, "heads"),
        ("pose-gru", {"precision": "half"}, "'auto', 'full'"),
        ("motion-boosting", {"leaves": 1}, "leaves"),
        ("embedding-tcn", {"input_dropout": 1.0}, "input_dropout"),
        ("video-network", {"network": "tiny"}, "random"),
        ("video-network", {"network": "mvit_v2_s"}, "224"),
        ("video-network", {"network": "r2d2"}, "'mvit_v2_s'"),
        ("video-network", {"batch": 16, "processes": 3}, "cannot share"),
        ("ensemble", {"members": []}, "member"),
        ("ensemble", {"members": [{"algorithm": "ensemble"}]}, "no member"),
        ("ensemble", {"members": [{"algorithm": "pose-gru", "settings": {"seed": 1}}]}, "seed"),
        ("ensemble", {"members": [{"algorithm": "pose-gru", "settings": 3}]}, "by name"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    name: str, values: dict[str, object], said: str
) -> None:
    with pytest.raises(AlgorithmError, match=said):
        settings_of(name, values)


def test_an_ensemble_of_unknown_or_clashing_members_is_refused() -> None:
    with pytest.raises(AlgorithmError, match="no algorithm 'magic'"):
        build("ensemble", EnsembleSettings(members=(MemberSettings("magic"),)))
    clashing = (MemberSettings("motion-boosting"), MemberSettings("embedding-tcn"))
    with pytest.raises(AlgorithmError, match="one of both"):
        build("ensemble", EnsembleSettings(members=clashing))


def test_an_ensemble_needs_what_its_members_need() -> None:
    members = (MemberSettings("pose-tcn"), MemberSettings("video-network"))
    assert build("ensemble", EnsembleSettings(members=members)).needs == {"pose", "frames"}


def test_pictures_of_a_video_network_are_settings() -> None:
    settings = settings_of("video-network", {"picture": {"colour": False, "long_side": 64}})
    assert getattr(settings, "picture") == PictureSettings(long_side=64, colour=False)  # noqa: B009


Make = Callable[[LearningSet], LearningSet]


@pytest.mark.parametrize(
    ("name", "make"), [("motion-boosting", with_motion), ("embedding-tcn", with_embeddings)]
)
def test_samples_of_another_kind_are_refused(
    name: str, make: Make, drawn: dict[str, LearningSet]
) -> None:
    own = make(drawn[name])
    (model,) = build(name, settings_of(name, SMALL[name])).fit(own, [PLAN], FitContext(WINDOWS))
    segment = every_segment(own)[0]
    assert segment.stretches is not None
    slower = tuple(replace(one, rate_hz=5.0) for one in segment.stretches)
    with pytest.raises(MissingInputError, match="same set"):
        model.scores(replace(segment, stretches=slower))
    nobody = model.scores(replace(segment, stretches=()))
    assert not nobody.score.any()
    assert set(nobody.track) == {None}


def test_names_and_cheap_modules_load_no_heavy_library() -> None:
    names = ("base", "registry", "files", "examples", "motion_boosting", "ensemble")
    modules = [f"fall_assets.learning.algorithms.{name}" for name in names]
    code = (
        f"import sys, {', '.join([*modules, 'fall_assets.learning.device'])}; "
        "print([name for name in ('torch', 'lightgbm', 'scipy', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
