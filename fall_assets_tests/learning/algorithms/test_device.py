"""Choosing a device, and feeding it. What needs a GPU is skipped where there is none."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch

from fall_assets.learning.algorithms import fitting
from fall_assets.learning.algorithms.base import FitContext, Plan
from fall_assets.learning.algorithms.registry import build, settings_of
from fall_assets.learning.dataset import LearningSet
from fall_assets.learning.device import (
    DeviceError,
    Fed,
    Feeding,
    autocast,
    choose_device,
    reproducible,
)
from fall_assets_tests.learning.algorithms.drawn import every_segment, small_set, with_embeddings

NETWORKS: dict[str, dict[str, Any]] = {
    "pose-gru": {"steps": 60, "batch": 32, "average": 0.9, "examples": 1500, "width": 16},
    "pose-transformer": {"steps": 60, "batch": 32, "average": 0.9, "examples": 1500, "width": 16},
    "embedding-tcn": {"steps": 60, "batch": 32, "average": 0.9, "reduced": 8, "width": 12},
}
PLAN = Plan(3)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def people() -> LearningSet:
    return with_embeddings(small_set(9))


def _scores(name: str, people: LearningSet, device: str) -> np.ndarray[Any, Any]:
    algorithm = build(name, settings_of(name, NETWORKS[name]))
    (model,) = algorithm.fit(people, [PLAN], FitContext(device=device))
    return np.concatenate([model.scores(segment).score for segment in every_segment(people)])


def test_auto_takes_what_there_is() -> None:
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert choose_device().type == choose_device("auto").type == expected
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("asked", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_refused(asked: str) -> None:
    with pytest.raises(DeviceError, match=asked):
        choose_device(asked)


def test_batches_come_in_order_however_they_are_made() -> None:
    for ahead in (0, 1, 3):
        feeding = Feeding()
        assert list(Fed(range(20), lambda n: n * n, feeding, ahead)) == [n * n for n in range(20)]
        assert feeding.batches == 20
        assert 0 <= feeding.waiting_share <= 1


def test_only_time_without_a_batch_counts_as_waiting() -> None:
    now = [0.0]

    def slowly(number: int) -> int:
        now[0] += 3.0
        return number

    feeding = Feeding("cuda", True)
    for _ in Fed(range(4), slowly, feeding, clock=lambda: now[0]):
        now[0] += 1.0
    assert feeding.waiting_share == 0.75
    assert feeding.record() == {
        "device": "cuda",
        "mixed_precision": True,
        "batches": 4,
        "training_s": 16.0,
        "waiting_share": 0.75,
    }
    assert Feeding().waiting_share == 0


def test_an_error_of_the_source_is_raised_and_its_thread_ends() -> None:
    def broken(number: int) -> int:
        if number == 3:
            raise OSError("no such film")
        return number

    before = threading.active_count()
    seen: list[int] = []
    batches = iter(Fed(range(10), broken, Feeding(), ahead=2))
    seen += [next(batches) for _ in range(3)]
    with pytest.raises(OSError, match="no such film"):
        next(batches)
    assert seen == [0, 1, 2]
    assert threading.active_count() == before


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    batches = iter(Fed(range(1000), lambda number: number, Feeding(), ahead=2))
    assert next(batches) == 0
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_the_callers_random_numbers_and_threads_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    with reproducible(1, 77):
        torch.rand(10)
        assert torch.get_num_threads() == 1
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_precision_is_mixed_on_a_gpu_only() -> None:
    with autocast(torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
    assert isinstance(autocast(torch.device("cuda"), "full"), AbstractContextManager)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_mixed_precision_gives_nearly_the_same(
    name: str, people: LearningSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = _scores(name, people, "cpu")
    used = []

    def mixed(device: torch.device, precision: str) -> AbstractContextManager[Any]:
        used.append(precision)
        return torch.autocast("cpu", dtype=torch.bfloat16)

    monkeypatch.setattr(fitting, "autocast", mixed)
    half = _scores(name, people, "cpu")
    assert used
    assert not np.array_equal(full, half)
    assert np.abs(full - half).mean() < 0.05
    assert np.corrcoef(full, half)[0, 1] > 0.97


@on_gpu
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_gpu_gives_nearly_the_same(name: str, people: LearningSet) -> None:
    cpu, gpu = _scores(name, people, "cpu"), _scores(name, people, "cuda")
    assert np.abs(cpu - gpu).mean() < 0.05
    assert np.corrcoef(cpu, gpu)[0, 1] > 0.97
