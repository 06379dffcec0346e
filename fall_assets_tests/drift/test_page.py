"""The drift report's page: what a technician reads on it, and that it is one harmless file."""

from __future__ import annotations

import base64
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fall_assets.drift.days import FACTS, POSE_FIGURES, QUALITY_FIGURES, SCORE_FIGURES
from fall_assets.drift.page import (
    DETAILED,
    ReportDay,
    drift_page,
    pick_scenes,
    scene_pictures,
)
from fall_assets.drift.words import (
    ANSWER_WORDS,
    FACT_WORDS,
    FIGURE_WORDS,
    KIND_WORDS,
    STATE_WORDS,
    WORDS,
    cameras_in_words,
    p_in_words,
)
from fall_assets.lake.registry import (
    DRIFT_ANSWER_STATES,
    DRIFT_ANSWERS,
    DRIFT_CAUSES,
    DRIFT_SIGNALS,
    table,
)
from fall_assets_tests.drift.report_days import (
    DAY,
    ago,
    answer,
    cameras,
    cause,
    history,
    jpeg,
    ordinary,
    pictures,
    report_day,
    rows,
    scene,
    signal,
)
from fall_assets_tests.gateway.browser import AXE, SIZES, needs_chromium, opened, resize

VOID = {"img", "meta", "source", "br", "link"}
BUDGET = "at most one false drift in 100 camera-months for the whole site"


class Page(HTMLParser):
    """What a browser makes of a page: elements, addresses, alternative texts, text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: list[str] = []
        self.alternatives: list[str] = []
        self._open: list[str] = []
        self._words: list[str] = []
        self.feed(content)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given_names = dict(attrs)
        self.elements.append((tag, tuple(sorted(given_names))))
        self.addresses += [
            given_names[n] or "" for n in ("src", "href", "srcset") if n in given_names
        ]
        if tag == "img":
            self.alternatives.append(given_names["alt"] or "")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self._words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(f"{word} " for word in self._words).split())


def page(day: ReportDay) -> Page:
    return Page(drift_page(day))


def blurred(answers: pl.DataFrame | None = None) -> ReportDay:
    """One camera's lens got dirty today."""
    return report_day(
        [cause()],
        [signal(), signal(name="contrast", drifted=False, effect=0.4, p_value=0.2)],
        history=rows("camera_profile", history()),
        ordinary=rows("ordinary_days", ordinary()),
        scenes={"cam-1": pictures()},
        cameras=cameras(("cam-1", "Geriatrics", "104")),
        budget=BUDGET,
        answers=table("drift_answers").empty() if answers is None else answers,
    )


def test_there_are_words_for_everything_that_the_tables_may_hold() -> None:
    assert set(WORDS) == set(DRIFT_CAUSES)
    assert set(FIGURE_WORDS) == {*QUALITY_FIGURES, *POSE_FIGURES, *SCORE_FIGURES}
    assert set(FACT_WORDS) == set(FACTS)
    assert set(KIND_WORDS) == set(DRIFT_SIGNALS)
    assert set(ANSWER_WORDS) == set(DRIFT_ANSWERS)
    assert set(STATE_WORDS) == set(DRIFT_ANSWER_STATES)
    for name, words in WORDS.items():
        assert words.happened[0].islower(), name
        assert not words.happened.endswith("."), name
        assert words.to_do, name
        assert all(line.endswith(".") for line in words.to_do), name


def test_the_documentation_tells_of_every_cause() -> None:
    told = (Path(__file__).parents[2] / "docs" / "drift.md").read_text(encoding="utf-8")
    for name, words in WORDS.items():
        assert f"| {words.title} | `{name}` |" in told


def test_small_numbers_are_not_shown_as_nothing() -> None:
    assert FIGURE_WORDS["sharpness"].shown(0.0121) == "12.1 ‰"
    assert FIGURE_WORDS["brightness"].shown(0.0004) == "0.04 %"
    assert FIGURE_WORDS["brightness"].shown(0.0) == "0 %"
    assert FIGURE_WORDS["brightness"].shown(float("nan")) == "unknown"
    assert [p_in_words(value) for value in (0.0, 1e-5, 0.004, 0.0123, 0.999)] == [
        "p < 0.0001", "p < 0.0001", "p = 0.004", "p = 0.012", "p > 0.99",
    ]  # fmt: skip
    assert cameras_in_words(["a"]) == "camera a"
    assert cameras_in_words(["a", "b", "c"]) == "cameras a, b and c"
    assert cameras_in_words(list("abcdefg")) == "cameras a, b, c, d and 3 others"


def test_a_changed_camera_is_told_with_everything_that_a_technician_asks() -> None:
    day = blurred(
        answers=rows(
            "drift_answers",
            [
                answer("cam-1", "lens_blurred", "labels", "asked", "20 moments wait.", 5),
                answer("cam-1", "lens_blurred", "annotate", "started", "Being noted.", 3),
                answer("cam-1", "lens_blurred", "annotate", "done", "Noted in the rollout.", 4),
                answer("cam-9", "lens_blurred", "retrain", "done", "Another camera's.", 4),
                answer("cam-1", "clock", "retrain", "done", "Another cause's.", 4),
            ],
        )
    )
    seen = page(day)
    for said in (
        "Camera cam-1: the lens looks dirty or out of focus",
        "ward Geriatrics, room 104",
        "16 March 2026 (today)",
        "p < 0.0001 after correction for all tests of the day",
        BUDGET,
        "Sharpness from 12.0 ‰ to 6.0 ‰",
        "Clean the lens",
        "Before , 24 February 2026, 12 to 18 h",
        "Today , 16 March 2026, 12 to 18 h",
    ):
        assert said in seen.text, said
    note, ask = seen.text.index("Noted in the rollout."), seen.text.index("20 moments wait.")
    assert note < ask, "answers stand in the order in which they are given"
    assert "waits for a person" in seen.text
    for unsaid in ("Being noted.", "Another camera's.", "Another cause's."):
        assert unsaid not in seen.text
    before = base64.b64encode(jpeg(1)).decode()
    assert f"data:image/jpeg;base64,{before}" in seen.addresses
    assert "Camera cam-1 before: blurred picture of the room, 24 February 2026, 12 to 18 h" in (
        seen.alternatives
    )


def test_exact_causes_need_no_statistics() -> None:
    day = report_day(
        [cause(name="resolution", p_value=None, signals=("resolution",), since=ago(3))],
        [
            signal(
                name="resolution", kind="exact", before=None, after=None, effect=None,
                p_value=None, reference="1280x720", today="3840x2160",
            )
        ],
    )  # fmt: skip
    seen = page(day)
    assert "Certain: exact" in seen.text
    assert "13 March 2026 (3 days ago)" in seen.text
    assert "usually 1280x720 px, now 3840x2160 px" in seen.text
    assert "after correction" not in seen.text


def test_suspected_causes_are_shown_as_such() -> None:
    seen = page(report_day([cause(confirmed=False, p_value=0.004)], [signal()]))
    assert "Nothing has changed for certain; 1 camera is watched" in seen.text
    assert "Seen today for the first time; a second day is awaited" in seen.text
    assert "Suspected, not confirmed" in seen.text
    assert "Not sure yet: p = 0.004" in seen.text
    older = page(report_day([cause(confirmed=False, since=ago(2))], [signal()]))
    assert "Seen since 14 March 2026; another day is awaited" in older.text


def test_a_clean_day_says_what_was_compared() -> None:
    signals = [
        signal(drifted=False, effect=0.31, p_value=0.4),
        signal("cam-2", drifted=False, effect=0.62, p_value=0.3),
    ]
    day = report_day([], signals, ordinary=rows("ordinary_days", ordinary()), budget=BUDGET)
    seen = page(day)
    for said in (
        "Nothing has changed",
        "2 cameras, 1,200 windows",
        "2 statistical tests",
        "15 camera-days from 10 February 2026 to 24 February 2026",
        "cameras cam-1 and cam-2",
        "0.62",
    ):
        assert said in seen.text, said
    assert len(drift_page(day)) < len(drift_page(blurred()))


def test_a_day_without_footage_says_so() -> None:
    seen = page(report_day([], [], windows=0))
    assert "No footage on this day" in seen.text
    assert "nothing was compared" in seen.text
    assert "Nothing has changed" not in seen.text


def test_many_cameras_are_told_in_short_and_the_page_stays_small() -> None:
    names = [f"cam-{n:03}" for n in range(DETAILED + 5)]
    day = report_day(
        [cause(name, signals=()) for name in names],
        [],
        scenes={name: pictures() for name in names},
    )
    seen = page(day)
    assert f"{len(names)} cameras have changed" in seen.text
    assert len(seen.alternatives) == 2 * DETAILED
    assert seen.text.count("No pictures and plots of this camera") == 5
    anchors = set(re.findall(r' id="([^"]+)"', drift_page(day)))
    links = [one[1:] for one in seen.addresses if one.startswith("#")]
    assert len(links) == len(names)
    assert set(links) <= anchors


def test_a_camera_may_have_several_causes() -> None:
    seen = page(
        report_day(
            [cause(), cause(name="clock", p_value=None, signals=("clock",), numbers="5 s")],
            [signal()],
        )
    )
    assert "Camera cam-1: the camera's clock is off, and 1 other change" in seen.text
    assert "The lens looks dirty or out of focus" in seen.text


def test_missing_pictures_are_said() -> None:
    day = report_day([cause(signals=())], [], scenes={"cam-1": pictures(before=False)})
    assert "No ordinary picture of this time of day" in page(day).text
    assert "There are no pictures of this camera" in page(report_day([cause()], [])).text


def test_the_page_is_one_file_without_script_or_request() -> None:
    content = drift_page(blurred())
    seen = Page(content)
    assert all(one.startswith(("data:image/", "#")) for one in seen.addresses)
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in seen.elements}
    assert not any(name.startswith("on") for _, names in seen.elements for name in names)
    assert "default-src 'none'" in content
    assert "url(" not in content
    assert "@import" not in content
    assert all(seen.alternatives)
    assert content == drift_page(blurred()), "equal input gives an equal page"


HOSTILE = st.one_of(
    st.text(min_size=1, max_size=40),
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "</style><style>*{display:none}",
            "' onmouseover='x",
            "&lt;b&gt;",
            "]]><!--",
            "\u202egnp.exe",
            "a\x00b",
            "\ud800",
        ]
    ),
)


@settings(max_examples=60, deadline=None)
@given(HOSTILE, HOSTILE, HOSTILE)
def test_names_from_folders_stay_text(camera: str, ward: str, said: str) -> None:
    def day(camera: str, ward: str, said: str) -> ReportDay:
        return report_day(
            [cause(camera, signals=(), numbers=said)],
            [signal(camera, name=said, reference=said, before=None)],
            verdict=said,
            scenes={camera: pictures()},
            cameras=_camera(camera, ward),
            answers=rows(
                "drift_answers", [answer(camera, "lens_blurred", "labels", "asked", said, 1)]
            ),
            budget=said,
        )

    ward = f"ward {ward}"
    # Surrogates cannot come out of a table.
    camera, ward, said = (
        "".join("?" if unicodedata.category(c) == "Cs" else c for c in name)
        for name in (camera, ward, said)
    )
    content = drift_page(day(camera, ward, said))
    content.encode()
    hostile, plain = Page(content), page(day("camera", "ward", "said"))
    assert hostile.elements == plain.elements
    assert [one for one in hostile.addresses if one.startswith("#")] == [
        one for one in plain.addresses if one.startswith("#")
    ]
    if camera.isprintable():
        assert " ".join(camera.split()) in hostile.text


def _camera(name: str, ward: str) -> pl.DataFrame:
    return cameras((name, ward, "1"))


def test_pictures_are_of_the_same_quarter_before_and_today() -> None:
    scenes = rows(
        "scenes",
        [
            scene("cam-1", ago(9), 0),
            scene("cam-1", ago(8), 2),
            scene("cam-1", ago(5), 2),
            scene("cam-1", ago(3), 2),
            scene("cam-1", DAY, 1, looks=90),
            scene("cam-1", DAY, 0, looks=3),
            scene("cam-1", DAY, 2, looks=7),
            scene("cam-2", ago(4), 1),
        ],
    )
    usual = rows("ordinary_days", [*ordinary(days=range(3, 10)), *ordinary("cam-2", range(3, 10))])
    # Of the quarters that both have, the one with most pictures; of its days the newest before.
    found = pick_scenes(scenes, usual, "cam-1", ago(4), DAY)
    assert found == (scene("cam-1", ago(5), 2)["picture"], scene("cam-1", DAY, 2)["picture"])
    only_old = rows("ordinary_days", ordinary(days=range(9, 10)))
    assert pick_scenes(scenes, only_old, "cam-1", ago(4), DAY) == (
        scene("cam-1", ago(9), 0)["picture"],
        scene("cam-1", DAY, 0)["picture"],
    )
    nothing = table("ordinary_days").empty()
    assert pick_scenes(scenes, nothing, "cam-1", ago(4), DAY) == (
        None,
        scene("cam-1", DAY, 1)["picture"],
    )
    assert pick_scenes(scenes, usual, "cam-2", ago(1), DAY) == (
        scene("cam-2", ago(4), 1)["picture"],
        None,
    )
    assert pick_scenes(scenes, usual, "cam-3", ago(1), DAY) == (None, None)


def test_a_picture_whose_file_is_gone_is_missing(tmp_path: Path) -> None:
    scenes = rows("scenes", [scene("cam-1", ago(5), 2), scene("cam-1", DAY, 2)])
    kept = tmp_path / scene("cam-1", DAY, 2)["picture"]
    kept.parent.mkdir(parents=True)
    kept.write_bytes(jpeg())
    pairs = scene_pictures(
        scenes,
        rows("ordinary_days", ordinary(days=range(5, 6))),
        rows("drift_causes", [cause(since=ago(1))]),
        DAY,
        lambda path: (tmp_path / path).read_bytes(),
    )
    before, after = pairs["cam-1"]
    assert before is None
    assert after is not None
    assert (after.jpeg, after.day, after.part) == (jpeg(), DAY, 2)


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_fits_a_phone(tmp_path: Path, scheme: str) -> None:
    """Nothing found by axe with everything unfolded; nothing that the page's policy forbids."""
    days = {
        "changed": blurred(),
        "suspected": report_day([cause(confirmed=False)], [signal()]),
        "clean": report_day([], [signal(drifted=False, effect=0.3)]),
        "empty": report_day([], [], windows=0),
    }
    with opened(tmp_path / "profile") as browser:
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        for name, day in days.items():
            file = tmp_path / f"{name}.html"
            file.write_text(drift_page(day), encoding="utf-8")
            browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": False})
            browser.get(file.as_uri())
            assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
            # axe is a script, which the page itself forbids.
            browser.execute_cdp_cmd("Page.setBypassCSP", {"enabled": True})
            for size in SIZES:
                resize(browser, size)
                browser.get(file.as_uri())
                browser.execute_script(
                    "document.querySelectorAll('details').forEach(one => one.open = true)"
                )
                browser.execute_script(AXE.read_text())
                found = browser.execute_async_script(
                    "axe.run(document).then(arguments[arguments.length - 1])"
                )
                bad = [(one["id"], one["nodes"][0]["html"][:150]) for one in found["violations"]]
                assert bad == [], f"{name}, {size}, {scheme}"
                assert found["passes"], "axe has looked at nothing"
                wide = browser.execute_script(
                    "return document.documentElement.scrollWidth - window.innerWidth"
                )
                assert wide <= 0, f"{name}, {size}: the page is wider than the screen"
