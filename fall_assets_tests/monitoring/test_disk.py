"""Growth is a robust slope, and the disk's end follows from it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fall_assets.monitoring.disk import days_until_full, disk_of, folder_size, growth_per_day
from fall_assets_tests.monitoring.telemetry import NOW


@given(st.floats(-1e12, 1e12), st.floats(-1e9, 1e9), st.integers(3, 40), st.randoms())
def test_steady_growth_is_found(start: float, per_day: float, days: int, random: object) -> None:
    points = [(NOW + timedelta(days=n), start + n * per_day) for n in range(days)]
    random.shuffle(points)  # type: ignore[attr-defined]
    assert growth_per_day(points) == pytest.approx(per_day, rel=1e-6, abs=1e-2)


def test_one_clean_up_does_not_bend_it() -> None:
    points = [(NOW + timedelta(days=n), 100.0 * n - (700 if n == 9 else 0)) for n in range(14)]
    assert growth_per_day(points) == pytest.approx(100)


def test_too_little_says_nothing() -> None:
    assert growth_per_day([(NOW, 1.0), (NOW + timedelta(days=5), 2.0)]) is None
    hours = [(NOW + timedelta(hours=n), float(n)) for n in range(12)]
    assert growth_per_day(hours) is None
    assert growth_per_day([]) is None


def test_days_until_full() -> None:
    assert days_until_full(1000, 100) == 10
    assert days_until_full(1000, 0) is None
    assert days_until_full(1000, -5) is None
    assert days_until_full(1000, None) is None


def test_a_folder_is_measured_as_it_lies_there(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"x" * 100)
    (tmp_path / "a" / "b" / "two").write_bytes(b"x" * 11)
    (tmp_path / "a" / "link").symlink_to(tmp_path)
    size, files = folder_size(tmp_path / "a")
    assert files == 3
    assert size == 111 + (tmp_path / "a" / "link").lstat().st_size
    assert folder_size(tmp_path / "none") == (0, 0)


def test_the_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    disk = disk_of(tmp_path / "site" / "lake")
    assert 0 < disk.free <= disk.total
    assert 0 < disk.free_share <= 1
