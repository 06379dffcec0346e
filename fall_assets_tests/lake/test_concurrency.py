"""Several processes at one lake, and processes that die while they write."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import polars as pl
import pytest

from fall_assets.lake import Lake
from fall_assets_tests.lake.crew import (
    LARGE,
    ROUNDS,
    Writer,
    extend_large_day,
    large,
    replace_large_day,
)
from fall_assets_tests.lake.rows import DAY_1, RUN, rows, same_rows

WRITERS = 4


@pytest.fixture(scope="module")
def crew() -> Iterator[list[Writer]]:
    writers = [Writer() for _ in range(WRITERS)]
    yield writers
    for writer in writers:
        writer.kill()


@pytest.fixture
def victim(crew: list[Writer]) -> Callable[[], Writer]:
    """Gives a writer that the test may kill; the crew gets another in its place."""

    def first() -> Writer:
        writer = crew.pop(0)
        writer.is_ready()
        crew.append(Writer())
        return writer

    return first


def run_together(crew: list[Writer], lake: Lake, job: str) -> None:
    for writer in crew:
        writer.is_ready()
    for number, writer in enumerate(crew):
        writer.begin(lake, job, number)
    for writer in crew:
        writer.is_ready()


def test_processes_that_replace_different_days_at_once_all_succeed(
    crew: list[Writer], lake: Lake
) -> None:
    run_together(crew, lake, "different_days")
    days = [DAY_1 + timedelta(days=writer) for writer in range(WRITERS)]
    assert lake.days("camera_health") == days
    for day in days:
        assert lake.read("camera_health", days=[day]).height == ROUNDS
    commits = [commit for commit in lake.history("camera_health") if commit["run_id"]]
    assert len(commits) == WRITERS * ROUNDS


def test_of_processes_that_replace_one_day_at_once_one_wins_whole(
    crew: list[Writer], lake: Lake
) -> None:
    run_together(crew, lake, "same_day")
    left = lake.read("camera_health")
    assert left.height == 3
    assert left["cpu_percent"].n_unique() == 1


def test_processes_that_extend_one_day_at_once_add_each_key_once(
    crew: list[Writer], lake: Lake
) -> None:
    run_together(crew, lake, "extend_one_day")
    left = lake.read("camera_health")
    expected = rows("camera_health", 3 * ROUNDS)
    key = ["camera_id", "at_utc"]
    assert left.select(key).equals(expected.select(key))


def test_processes_that_extend_different_days_at_once_lose_nothing(
    crew: list[Writer], lake: Lake
) -> None:
    run_together(crew, lake, "extend_own_days")
    for writer in range(WRITERS):
        day = DAY_1 + timedelta(days=writer)
        expected = rows("camera_health", ROUNDS, day=day)
        assert lake.read("camera_health", days=[day])["at_utc"].equals(expected["at_utc"])
    commits = [commit for commit in lake.history("camera_health") if commit["run_id"]]
    assert len(commits) == WRITERS * ROUNDS


def test_files_are_joined_beside_writers_and_no_row_is_lost_or_doubled(
    crew: list[Writer], lake: Lake
) -> None:
    run_together(crew, lake, "extend_and_join")
    expected = rows("camera_health", 4 * ROUNDS)
    assert same_rows(lake.read("camera_health", days=[DAY_1]), expected, "camera_health")
    day = DAY_1 + timedelta(days=1)
    assert lake.read("camera_health", days=[day]).height == 5


def test_processes_that_append_the_same_keys_at_once_add_each_once(
    crew: list[Writer], lake: Lake
) -> None:
    run_together(crew, lake, "append_same_keys")
    assert lake.read("cameras")["camera_id"].to_list() == [f"cam-{n:02d}" for n in range(ROUNDS)]


def test_processes_that_upsert_at_once_lose_nothing(crew: list[Writer], lake: Lake) -> None:
    run_together(crew, lake, "upsert_own_keys")
    assert lake.read("cameras")["camera_id"].to_list() == [
        f"cam-{writer}-{number}" for writer in range(WRITERS) for number in range(ROUNDS)
    ]


def test_readers_see_all_of_one_write_and_nothing_of_another(
    crew: list[Writer], lake: Lake
) -> None:
    replace_large_day(lake, 9)
    work = threading.Thread(target=run_together, args=(crew, lake, "replace_large_day"))
    work.start()
    while work.is_alive():
        found = lake.read("camera_health", columns=["cpu_percent"])
        assert found.height == LARGE
        assert found["cpu_percent"].n_unique() == 1
    work.join()
    assert lake.read("camera_health")["cpu_percent"][0] in range(WRITERS)


def test_a_writer_killed_before_its_commit_leaves_the_old_rows(
    victim: Callable[[], Writer], lake: Lake
) -> None:
    old, new = large(1.0), large(2.0)
    version = lake.replace_partition("camera_health", DAY_1, old, RUN)
    folder = lake.snapshot("camera_health").files[0].parent
    files = set(folder.iterdir())
    for _ in range(5):
        writer = victim()
        writer.begin(lake, "replace_large_day", 2)
        while set(folder.iterdir()) == files:
            assert writer.process.poll() is None
        writer.kill()
        if lake.version("camera_health") == version:
            break
        # It was quicker than we were: all of its rows are there. Another try.
        assert lake.read("camera_health").equals(new)
        version = lake.replace_partition("camera_health", DAY_1, old, RUN)
        files = set(folder.iterdir())
    else:
        pytest.fail("five writers committed before they could be killed")
    assert set(folder.iterdir()) > files
    assert lake.read("camera_health").equals(old)
    assert lake.rows("camera_health") == LARGE

    lake.maintain("camera_health", retain_hours=0, exclusive=True)
    assert set(folder.iterdir()) == set(lake.snapshot("camera_health").files)
    replace_large_day(lake, 2)
    assert lake.read("camera_health").equals(new)


def test_a_writer_killed_while_it_extends_a_day_leaves_all_or_nothing_of_its_batch(
    victim: Callable[[], Writer], lake: Lake
) -> None:
    before = rows("camera_health", 3).with_columns(cpu_percent=pl.lit(1.0))
    lake.extend_partition("camera_health", DAY_1, before, RUN)
    # Of the large batch, one key stands already: it is kept as it was.
    new = large(2.0).cast(before.schema)
    key = ["camera_id", "at_utc"]
    after = pl.concat([before, new.join(before, on=key, how="anti")])
    folder = lake.snapshot("camera_health").files[0].parent
    files = set(folder.iterdir())
    writer = victim()
    writer.begin(lake, "extend_large_day", 2)
    while set(folder.iterdir()) == files:
        assert writer.process.poll() is None
    writer.kill()
    left = lake.read("camera_health")
    assert left.height in (before.height, after.height)
    assert same_rows(left, before if left.height == 3 else after, "camera_health")
    # A run that is started again ends as an undisturbed one does.
    extend_large_day(lake, 2)
    assert same_rows(lake.read("camera_health"), after, "camera_health")


@pytest.mark.parametrize("delay_s", [0.0, 0.1])
def test_a_writer_killed_at_any_moment_leaves_old_or_new_rows(
    victim: Callable[[], Writer], lake: Lake, delay_s: float
) -> None:
    old, new = large(1.0), large(2.0)
    lake.replace_partition("camera_health", DAY_1, old, RUN)
    writer = victim()
    writer.begin(lake, "replace_large_day", 2)
    time.sleep(delay_s)
    writer.kill()
    left = lake.read("camera_health")
    assert left.equals(old) or left.equals(new)
    # A run that is started again ends as an undisturbed one does.
    replace_large_day(lake, 2)
    assert lake.read("camera_health").equals(new)
    assert lake.rows("camera_health") == LARGE
