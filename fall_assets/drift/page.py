"""A day's drift report as one HTML page, for the technician of a ward.

Here: what the page is made of (`ReportDay`), which pictures stand on it, and its layout. Not here:
judging (`report.py`), words for causes and figures (`words.py`), plots (`plots.py`), reading and
writing the lake. The page holds no script and loads nothing; every word that comes from data is
escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl

from fall_assets.drift import plots
from fall_assets.drift.words import (
    ANSWER_WORDS,
    FACT_WORDS,
    FIGURE_WORDS,
    KIND_WORDS,
    STATE_WORDS,
    WORDS,
    cameras_in_words,
    capital,
    day_in_words,
    figure_of,
    p_in_words,
    plural,
    short_day,
    signal_in_words,
    sure_in_words,
)
from fall_assets.lake.registry import DRIFT_ANSWERS, table
from fall_assets.markup import data_uri, document, text
from fall_assets.markup import table as html_table

HISTORY_DAYS = 35
"""So many days up to the report's are drawn."""

DETAILED = 20
"""So many cameras get pictures and plots; all of them get their words."""

_FELT_MOST = 12
_PART_HOURS = ("0 to 6", "6 to 12", "12 to 18", "18 to 24")

Row = dict[str, Any]


@dataclass(frozen=True)
class ScenePicture:
    """A blurred picture of the empty scene: a JPEG, its day and its quarter of the day, UTC."""

    jpeg: bytes
    day: date
    part: int


ScenePair = tuple[ScenePicture | None, ScenePicture | None]
"""Before and after."""


@dataclass(frozen=True)
class ReportDay:
    """Everything that is known of a day's drift, for its page and its plot.

    Attributes:
        day: which.
        model_version: the champion against whose ordinary days it is judged.
        report: the day's row of `drift_report`.
        causes: the day's rows of `drift_causes`.
        signals: the day's rows of `drift_signals`.
        answers: rows of `drift_answers` up to the day; those of other causes or cameras are not
            shown.
        history: rows of `camera_profile` of the last `HISTORY_DAYS` days of the cameras in
            `causes`.
        facts: rows of `camera_facts` of the same days and cameras.
        ordinary: rows of `ordinary_days` of the model.
        scenes: by camera, as `scene_pictures` reads them.
        cameras: rows of `cameras`; of them the ward and the room are shown.
        budget: the budget for false alarms as a clause: "at most one false drift per 24
            camera-months for the whole site"; empty where it is not to be told.
    """

    day: date
    model_version: str
    report: pl.DataFrame
    causes: pl.DataFrame
    signals: pl.DataFrame
    answers: pl.DataFrame = field(default_factory=lambda: table("drift_answers").empty())
    history: pl.DataFrame = field(default_factory=lambda: table("camera_profile").empty())
    facts: pl.DataFrame = field(default_factory=lambda: table("camera_facts").empty())
    ordinary: pl.DataFrame = field(default_factory=lambda: table("ordinary_days").empty())
    scenes: Mapping[str, ScenePair] = field(default_factory=dict)
    cameras: pl.DataFrame = field(default_factory=lambda: table("cameras").empty())
    budget: str = ""

    @property
    def verdict(self) -> str:
        """The day's verdict, in words."""
        return str(self.report["verdict"][0])

    @property
    def windows(self) -> int:
        """So many windows were compared."""
        return int(self.report["windows"][0])

    def causes_in_order(self) -> list[Row]:
        """Rows of `drift_causes`: confirmed before suspected, exact before tested, then by p."""
        return (
            self.causes.with_columns(_p=pl.col("p_value").fill_null(-1.0))
            .sort(
                ["confirmed", "_p", "since", "camera_id", "cause"], descending=[True, *[False] * 4]
            )
            .drop("_p")
            .to_dicts()
        )

    def signals_of(self, camera_id: str) -> list[Row]:
        """Rows of `drift_signals` of a camera: drifted ones first, then the largest changes."""
        return (
            self.signals.filter(pl.col("camera_id") == camera_id)
            .with_columns(_effect=pl.col("effect").fill_null(-1.0))
            .sort(["drifted", "_effect", "signal"], descending=[True, True, False])
            .drop("_effect")
            .to_dicts()
        )

    def evidence_of(self, cause: Row) -> list[Row]:
        """The signals that speak for a row of `drift_causes`, the largest change first."""
        told = json.loads(cause["evidence"])
        named = {one["signal"] if isinstance(one, dict) else one for one in told}
        return [one for one in self.signals_of(cause["camera_id"]) if one["signal"] in named]

    def ordinary_days_of(self, camera_id: str) -> set[date]:
        """The days that are ordinary of a camera."""
        kept = self.ordinary.filter(
            pl.col("camera_id") == camera_id, pl.col("model_version") == self.model_version
        )
        return set(kept["recorded_day"].to_list())

    def place_of(self, camera_id: str) -> str:
        """Ward and room of a camera, as far as they are known; empty where they are not."""
        rows = self.cameras.filter(pl.col("camera_id") == camera_id).head(1).to_dicts()
        if not rows:
            return ""
        parts = [
            f"{kind} {rows[0][kind]}" for kind in ("ward", "room") if rows[0][kind] != "unknown"
        ]
        return ", ".join(parts)


def pick_scenes(
    scenes: pl.DataFrame, ordinary: pl.DataFrame, camera_id: str, since: date, day: date
) -> tuple[str | None, str | None]:
    """Paths of the newest ordinary picture of a camera before `since`, and of today's.

    Both are of the same quarter of the day: of the one in which most pictures were taken today,
    among those that have an ordinary picture. `scenes` and `ordinary` are rows of `scenes` and of
    `ordinary_days` of one model. None where there is none.
    """
    before, after = _picked(scenes, ordinary, camera_id, since, day)
    return (before["picture"] if before else None, after["picture"] if after else None)


def scene_pictures(
    scenes: pl.DataFrame,
    ordinary: pl.DataFrame,
    causes: pl.DataFrame,
    day: date,
    read: Callable[[str], bytes],
) -> dict[str, ScenePair]:
    """The pictures of `pick_scenes` for the first `DETAILED` cameras in `causes`.

    `read` gives the bytes of a path below the lake's root; a file that is gone (OSError) is None.
    """
    pairs: dict[str, ScenePair] = {}
    ordered = causes.sort(["confirmed", "p_value"], descending=[True, False], nulls_last=False)
    for camera_id in list(dict.fromkeys(ordered["camera_id"].to_list()))[:DETAILED]:
        since = causes.filter(pl.col("camera_id") == camera_id)["since"].to_list()
        first, second = _picked(scenes, ordinary, camera_id, min(since), day)
        pairs[camera_id] = (_read(first, read), _read(second, read))
    return pairs


def _read(row: Row | None, read: Callable[[str], bytes]) -> ScenePicture | None:
    if row is None:
        return None
    try:
        return ScenePicture(read(row["picture"]), row["day"], row["part"])
    except OSError:
        return None


def _picked(
    scenes: pl.DataFrame, ordinary: pl.DataFrame, camera_id: str, since: date, day: date
) -> tuple[Row | None, Row | None]:
    own = scenes.filter(pl.col("camera_id") == camera_id)
    usual = ordinary.filter(pl.col("camera_id") == camera_id)["recorded_day"].unique()
    before = own.filter(pl.col("day") < since, pl.col("day").is_in(usual.implode()))
    today = own.filter(pl.col("day") == day)
    if today.is_empty():
        # Any quarter will do to show what it was like.
        newest = before.sort(["day", "looks", "part"], descending=[True, True, False])
        return (newest.row(0, named=True) if len(newest) else None, None)
    matched = today.join(before.select("part").unique(), on="part", how="semi")
    chosen = (today if matched.is_empty() else matched).sort(
        ["looks", "part"], descending=[True, False]
    )
    after = chosen.row(0, named=True)
    alike = before.filter(pl.col("part") == after["part"]).sort("day", descending=True)
    return (alike.row(0, named=True) if len(alike) else None, after)


def drift_page(day: ReportDay) -> str:
    """The page, as text to be written in UTF-8."""
    causes = day.causes_in_order()
    by_camera: dict[str, list[Row]] = {}
    for cause in causes:
        by_camera.setdefault(cause["camera_id"], []).append(cause)
    changed = {name: own for name, own in by_camera.items() if any(c["confirmed"] for c in own)}
    watched = {name: own for name, own in by_camera.items() if name not in changed}
    places = {name: f"camera-{number}" for number, name in enumerate((*changed, *watched), 1)}
    tone, sign, headline = _headline(day, changed, watched)
    title = f"Drift report of {day_in_words(day.day)}"
    parts = [
        f'<header><p class="kicker">{text(title)}</p>'
        f'<h1 class="{tone}"><span class="sign" aria-hidden="true">{sign}</span> '
        f"{text(headline)}</h1>",
        "" if len(causes) > 1 else f'<p class="verdict">{text(day.verdict)}</p>',
        "</header><main>",
    ]
    if len(causes) > 1:
        parts.append(_summary(day, causes, places))
    for heading, about, cameras in (
        ("Changed", "", changed),
        (
            "Suspected, not confirmed",
            "<p>Seen, but not on enough days to be counted as a change. Nothing is done yet.</p>",
            watched,
        ),
    ):
        if cameras:
            cards = [_card(day, name, own, places) for name, own in cameras.items()]
            parts.append(f"<section><h2>{heading}</h2>{about}{''.join(cards)}</section>")
    parts += [_compared(day, bool(causes)), _reading(), "</main>"]
    parts.append(
        f"<footer><p>Judged against the ordinary days of model {_name(day.model_version)}. "
        "Pictures are blurred and show the room without the people in it. Times are UTC.</p>"
        "</footer>"
    )
    return document(title, "\n".join(parts), _STYLE)


def _headline(
    day: ReportDay, changed: Mapping[str, list[Row]], watched: Mapping[str, list[Row]]
) -> tuple[str, str, str]:
    """Tone, sign and the sentence."""
    if len(changed) == 1 and not watched:
        camera_id, causes = next(iter(changed.items()))
        happened = [WORDS[one["cause"]].happened for one in causes if one["confirmed"]]
        more = f", and {plural(len(happened) - 1, 'other change')}" if len(happened) > 1 else ""
        return "changed", "▲", f"Camera {camera_id}: {happened[0]}{more}"
    if changed:
        many = f"{len(changed)} cameras have" if len(changed) > 1 else "1 camera has"
        more = f", {_are(len(watched), 'more')} watched" if watched else ""
        return "changed", "▲", f"{many} changed{more}"
    if watched:
        many = _are(len(watched), "camera" if len(watched) == 1 else "cameras")
        return "watched", "◆", f"Nothing has changed for certain; {many} watched"
    if bool(day.report["drifted"][0]):
        return "changed", "▲", "The day differs from what the detector learned"
    if day.windows == 0:
        return "quiet", "○", "No footage on this day"
    return "clean", "✓", "Nothing has changed"


def _summary(day: ReportDay, causes: Sequence[Row], places: Mapping[str, str]) -> str:
    """What happened where, in a few lines; the verdict as it is kept, folded."""
    groups: dict[tuple[bool, str], list[Row]] = {}
    for cause in causes:
        groups.setdefault((cause["confirmed"], cause["cause"]), []).append(cause)
    lines = []
    for (confirmed, name), own in groups.items():
        links = ", ".join(
            f'<a href="#{places[one["camera_id"]]}">{_name(one["camera_id"])}</a> '
            f'<span class="when">since {text(short_day(one["since"]))}</span>'
            for one in own
        )
        badge = "" if confirmed else ' <span class="badge watched">suspected</span>'
        lines.append(f"<li><strong>{text(WORDS[name].title)}</strong>{badge}: {links}</li>")
    return (
        f'<section><h2>In short</h2><ul class="short">{"".join(lines)}</ul>'
        "<details><summary>The verdict with its numbers</summary>"
        f"<p>{text(day.verdict)}</p></details></section>"
    )


def _card(day: ReportDay, camera_id: str, causes: Sequence[Row], places: Mapping[str, str]) -> str:
    """Everything of one camera."""
    place = places[camera_id]
    where = day.place_of(camera_id)
    detailed = int(place.rpartition("-")[2]) <= DETAILED
    parts = [
        f'<article class="card" id="{place}" aria-labelledby="{place}-name">',
        f'<h3 id="{place}-name">{_camera(camera_id)}'
        + (f' <span class="place">{_name(where)}</span>' if where else "")
        + "</h3>",
    ]
    pictures = _pictures(day, camera_id) if detailed else ""
    if len(causes) == 1:
        parts.append(_cause(day, causes[0], pictures))
    else:
        parts += [pictures, *(_cause(day, cause) for cause in causes)]
    parts.append(
        _plot(day, causes)
        if detailed
        else "<p>No pictures and plots of this camera, to keep the page small.</p>"
    )
    rows = day.signals_of(camera_id)
    parts.append(
        f"<details><summary>All measurements of this camera ({len(rows)})</summary>"
        f"{_signals(rows, f'Measurements of camera {camera_id}')}</details></article>"
        if rows
        else "</article>"
    )
    return "".join(parts)


def _cause(day: ReportDay, cause: Row, pictures: str = "") -> str:
    """What happened, since when, how sure, what was done, what to do."""
    words = WORDS[cause["cause"]]
    confirmed = cause["confirmed"]
    badge = (
        '<span class="badge changed">changed</span>'
        if confirmed
        else '<span class="badge watched">suspected</span>'
    )
    answers = _answers(day, cause)
    done = "<ul>" + "".join(f"<li>{line}</li>" for line in answers) + "</ul>"
    to_do = "".join(f"<li>{text(line)}</li>" for line in words.to_do)
    if not answers:
        done = "Noted in this report." if confirmed else "It waits for another day of footage."
    facts = [
        ("Since", _since(day, cause)),
        ("How sure", _sure(day, cause)),
        ("What was measured", text(_measured(cause))),
        ("What it means", text(words.meaning)),
        ("What the platform does", done),
        ("What you can do", f"<ul>{to_do}</ul>"),
    ]
    listed = "".join(f"<div><dt>{name}</dt><dd>{said}</dd></div>" for name, said in facts if said)
    return (
        f'<section class="cause"><h4>{text(capital(words.happened))} {badge}</h4>'
        f"{pictures}<dl>{listed}</dl></section>"
    )


def _measured(cause: Row) -> str:
    """The numbers of a cause's words: without what the heading says."""
    happened = WORDS[cause["cause"]].happened
    rest = str(cause["words"]).removeprefix(happened).strip()
    return capital(rest[1:-1] if rest.startswith("(") and rest.endswith(")") else rest)


def _since(day: ReportDay, cause: Row) -> str:
    """Since when; whether slowly; what is awaited."""
    since, days = cause["since"], (day.day - cause["since"]).days
    slowly = "Slowly since " if plots.is_slow(day, cause) else ""
    if not cause["confirmed"]:
        seen = "today for the first time" if days <= 0 else f"since {day_in_words(since)}"
        awaited = "a second day" if days <= 0 else "another day"
        return text(f"Seen {seen}; {awaited} is awaited")
    ago = "today" if days <= 0 else "1 day ago" if days == 1 else f"{days} days ago"
    return text(f"{slowly}{day_in_words(since)} ({ago})")


def _sure(day: ReportDay, cause: Row) -> str:
    """How sure, in words and as a number."""
    said = capital(sure_in_words(cause["p_value"], cause["confirmed"]))
    if cause["p_value"] is None:
        return text(f"{said}: exact, a fact and no statistics" if cause["confirmed"] else said)
    sentence = f"{said}: {p_in_words(cause['p_value'])} after correction for all tests of the day"
    return text(f"{sentence}; budget: {day.budget}" if day.budget else sentence)


def _answers(day: ReportDay, cause: Row) -> list[str]:
    """The newest state of each answer to a cause, as HTML, in the order of the answers."""
    newest: dict[str, Row] = {}
    for row in day.answers.sort("at_utc").iter_rows(named=True):
        if row["cause"] == cause["cause"] and cause["camera_id"] in _names(row["cameras"]):
            newest[row["answer"]] = row
    lines = []
    for answer in DRIFT_ANSWERS:
        if answer in newest:
            row = newest[answer]
            badge = "asked" if row["state"] in ("asked", "failed", "refused") else "told"
            lines.append(
                f"{text(ANSWER_WORDS[answer])} "
                f'<span class="badge {badge}">{text(STATE_WORDS[row["state"]])}</span> '
                f'<span class="said">{text(row["sentence"])}</span>'
            )
    return lines


def _pictures(day: ReportDay, camera_id: str) -> str:
    """Before and after, side by side."""
    pair = day.scenes.get(camera_id, (None, None))
    if pair == (None, None):
        return "<p>There are no pictures of this camera.</p>"
    figures = []
    for picture, name, missing in (
        (pair[0], "before", "no ordinary picture of this time of day"),
        (pair[1], "today", "no picture of this day"),
    ):
        if picture is None:
            figures.append(
                f'<figure><div class="missing">{capital(missing)}</div>'
                f"<figcaption><strong>{capital(name)}</strong></figcaption></figure>"
            )
            continue
        hours = _PART_HOURS[picture.part] if 0 <= picture.part < len(_PART_HOURS) else "unknown"
        when = f"{day_in_words(picture.day)}, {hours} h"
        alt = f"Camera {camera_id} {name}: blurred picture of the room, {when}"
        figures.append(
            f'<figure><img src="{data_uri(picture.jpeg, "jpeg")}" alt="{text(alt)}">'
            f"<figcaption><strong>{capital(name)}</strong>, {text(when)}</figcaption></figure>"
        )
    return f'<div class="pair">{"".join(figures)}</div>'


def _plot(day: ReportDay, causes: Sequence[Row]) -> str:
    """The figure that moved most, over the last weeks."""
    drawn = [cause for cause in causes if plots.can_draw(day, cause)]
    if not drawn:
        return ""
    # Of several causes, the confirmed and larger one: they are in order.
    cause = drawn[0]
    light, dark = plots.cause_plot(day, cause), plots.cause_plot(day, cause, dark=True)
    said = plots.in_words(day, cause)
    return (
        '<figure class="plot"><picture>'
        f'<source media="screen and (prefers-color-scheme: dark)" srcset="{data_uri(dark, "png")}">'
        f'<img src="{data_uri(light, "png")}" alt="{text(f"Plot of the last weeks. {said}")}">'
        f"</picture><figcaption>{text(said)}</figcaption></figure>"
    )


def _signals(rows: Sequence[Row], name: str) -> str:
    """Rows of `drift_signals` as a table."""
    return html_table(
        ["measurement", "kind", "usual", "today", "change", "p-value", "counts"],
        (
            [
                text(signal_in_words(row["signal"])),
                text(KIND_WORDS.get(row["kind"], row["kind"])),
                text(_value(row, "before", "reference")),
                text(_value(row, "after", "today")),
                "" if row["effect"] is None else text(f"{row['effect']:.1f}"),
                "" if row["p_value"] is None else text(p_in_words(row["p_value"])),
                "yes" if row["drifted"] else "no",
            ]
            for row in rows
        ),
        name,
    )


def _value(row: Row, number: str, words: str) -> str:
    """A value with its unit where it is a figure's number, else in the signal's own words."""
    figure = FIGURE_WORDS.get(figure_of(row["signal"]))
    if figure is not None and row[number] is not None:
        return figure.shown(row[number])
    fact = FACT_WORDS.get(row["signal"])
    said = str(row[words])
    return f"{said} {fact.unit}" if fact is not None and fact.unit and said else said


def _compared(day: ReportDay, any_cause: bool) -> str:
    """What was compared with what."""
    cameras = day.signals["camera_id"].unique().sort().to_list()
    heading = "<h2>What was compared</h2>"
    if not cameras and day.windows == 0:
        return (
            f"<section>{heading}<p>No camera has footage on this day, so nothing was compared. If "
            "the cameras should have recorded, look at the recorder and the network.</p></section>"
        )
    ordinary = day.ordinary.filter(pl.col("model_version") == day.model_version)
    tested = int(day.signals["p_value"].is_not_null().sum())
    exact = len(day.signals) - tested
    parts = [
        f"<section>{heading}<p>{plural(len(cameras), 'camera')}, {day.windows:,} windows of a few "
        f"seconds each, {plural(tested, 'statistical test')}"
        + (f" and {plural(exact, 'other measurement')}. " if exact else ". ")
    ]
    if not ordinary.is_empty():
        days = sorted(ordinary["recorded_day"].to_list())
        parts.append(
            f"Each camera was compared with its own ordinary days, at the same time of day: "
            f"{plural(ordinary.height, 'camera-day')} from {day_in_words(days[0])} "
            f"to {day_in_words(days[-1])}. "
        )
    if day.budget:
        parts.append(f"False alarms of this report: {text(day.budget)}. ")
    parts.append("</p>")
    if not any_cause and cameras:
        parts.append(f"<p>Compared: {text(cameras_in_words(cameras, 20))}.</p>")
        most = day.signals.drop_nulls("effect").sort(
            ["effect", "camera_id", "signal"], descending=[True, False, False]
        )
        if not most.is_empty():
            parts.append(_felt_most(day, most.head(_FELT_MOST).to_dicts()))
    parts.append("</section>")
    return "".join(parts)


def _felt_most(day: ReportDay, rows: Sequence[Row]) -> str:
    """The largest changes of a day on which nothing counts."""
    shown = html_table(
        ["camera", "measurement", "usual", "today", "change"],
        (
            [
                _name(row["camera_id"]),
                text(signal_in_words(row["signal"])),
                text(_value(row, "before", "reference")),
                text(_value(row, "after", "today")),
                text(f"{row['effect']:.2f}"),
            ]
            for row in rows
        ),
        "Largest changes of the day",
    )
    light, dark = plots.changes_plot(day), plots.changes_plot(day, dark=True)
    return (
        '<figure class="plot"><picture>'
        f'<source media="screen and (prefers-color-scheme: dark)" srcset="{data_uri(dark, "png")}">'
        f'<img src="{data_uri(light, "png")}" alt="The largest changes of the day against what '
        'counts; the table below has the numbers.">'
        "</picture></figure>"
        f"<details><summary>The largest changes of the day</summary>{shown}</details>"
    )


def _reading() -> str:
    """What the words of the page mean."""
    return (
        "<section><details><summary>How to read this page</summary><dl>"
        "<div><dt>Ordinary day</dt><dd>A day from which the detector learned; each camera is "
        "compared with its own, night with night.</dd></div>"
        "<div><dt>Changed</dt><dd>It is certain, and large enough to matter: exact facts at once, "
        "everything else when it was seen on enough days.</dd></div>"
        "<div><dt>Suspected</dt><dd>Seen, but it may be chance or pass by itself.</dd></div>"
        "<div><dt>Change</dt><dd>How far the measurement moved, over the smallest move that "
        "matters to the detector or the eye: 1 and more is large.</dd></div>"
        "<div><dt>p</dt><dd>How likely a difference as large as this is, in any test of the "
        "day, if nothing had changed: the smaller, the surer.</dd></div>"
        "</dl></details></section>"
    )


def _camera(camera_id: str) -> str:
    return f"Camera {_name(camera_id)}"


def _name(name: str) -> str:
    """A name that comes from data; its direction of writing does not spill over."""
    return f"<bdi>{text(name)}</bdi>"


def _are(number: int, what: str) -> str:
    return f"{number} {what} {'is' if number == 1 else 'are'}"


def _names(packed: str) -> list[str]:
    """Names in a JSON list of the tables."""
    return [str(name) for name in json.loads(packed)]


_STYLE = """
:root { color-scheme: light dark;
  --ground: #eef2f5; --surface: #fff; --ink: #10202d; --soft: #435463; --line: #cbd5dd;
  --link: #0b4f8a; --changed: #a33b00; --changed-ground: #fdeadd; --watched: #0b4f8a;
  --watched-ground: #e2eefa; --clean: #1c6b3c; --fill: #f3f6f8; }
@media screen and (prefers-color-scheme: dark) { :root {
  --ground: #0b1218; --surface: #151f28; --ink: #eaf1f6; --soft: #b3c1cc; --line: #2f3e4a;
  --link: #9ccbf5; --changed: #ffb38a; --changed-ground: #432312; --watched: #9ccbf5;
  --watched-ground: #14324e; --clean: #7fd6a2; --fill: #1c2833; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 62rem; padding: 1.25rem clamp(.75rem, 3vw, 2rem) 3rem;
  background: var(--ground); color: var(--ink); overflow-wrap: anywhere;
  font: 400 1.0625rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans",
  sans-serif; }
h1, h2, h3, h4, p, dl, dd, ul, figure { margin: 0; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
header { padding: .5rem 0 .25rem; }
.kicker { color: var(--soft); font-weight: 600; }
h1 { font-size: clamp(1.5rem, 5vw, 2.1rem); line-height: 1.2; margin: .15rem 0 .5rem; }
h1.changed .sign { color: var(--changed); } h1.watched .sign { color: var(--watched); }
h1.clean .sign { color: var(--clean); } h1.quiet .sign { color: var(--soft); }
p + p, p + figure, p + article { margin-top: .6rem; }
.when { white-space: nowrap; }
.verdict { font-size: 1.125rem; max-width: 48rem; }
h2 { font-size: 1.25rem; margin: 2rem 0 .6rem; }
.short { padding-left: 1.2rem; } .short li { margin: .25rem 0; }
.card { background: var(--surface); border: 1px solid var(--line); border-radius: .75rem;
  padding: 1rem clamp(.85rem, 2.5vw, 1.5rem) 1.1rem; margin: 0 0 1.25rem; }
h3 { font-size: 1.15rem; } .place { color: var(--soft); font-weight: 400; margin-left: .35rem; }
.cause { margin: .5rem 0 1rem; }
h3 ~ .cause ~ .cause { border-top: 1px solid var(--line); padding-top: .75rem; }
h4 { font-size: 1.3rem; line-height: 1.3; margin-bottom: .5rem; }
.badge { display: inline-block; font-size: .8rem; font-weight: 600; line-height: 1.5;
  padding: 0 .55rem; border-radius: 1rem; vertical-align: .1em; background: var(--fill);
  color: var(--soft); border: 1px solid var(--line); }
.badge.changed, .badge.asked { background: var(--changed-ground); color: var(--changed);
  border-color: currentColor; }
.badge.watched { background: var(--watched-ground); color: var(--watched);
  border-color: currentColor; }
dl > div { display: grid; grid-template-columns: 14rem 1fr; gap: 0 1rem; padding: .4rem 0;
  border-top: 1px solid var(--line); }
dl > div:first-child { border-top: 0; }
dt { color: var(--soft); font-weight: 600; }
dd ul { padding-left: 1.1rem; } dd li + li { margin-top: .25rem; }
.said { display: block; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; margin: .5rem 0 1rem; }
img { display: block; max-width: 100%; height: auto; border-radius: .4rem; }
.pair img { width: 100%; }
figcaption { color: var(--soft); font-size: .95rem; padding-top: .3rem; }
.missing { display: grid; place-items: center; aspect-ratio: 16 / 9; padding: .5rem;
  text-align: center; color: var(--soft); background: var(--fill); border-radius: .4rem;
  border: 1px dashed var(--line); }
.plot { margin: .5rem 0 .75rem; max-width: 36rem; }
details { margin: .5rem 0 0; }
summary { cursor: pointer; font-weight: 600; padding: .5rem 0; color: var(--link); }
.wide { overflow-x: auto; margin: .25rem 0 .5rem; overflow-wrap: normal; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0;
  border-bottom: 1px solid var(--line); }
th { color: var(--soft); }
footer { margin-top: 2rem; color: var(--soft); font-size: .95rem; }
@media (max-width: 36rem) {
  dl > div { grid-template-columns: 1fr; }
}
@media print {
  body { max-width: none; padding: 0; background: #fff; font-size: 10.5pt; }
  .card { border: 0; border-top: 2px solid #10202d; border-radius: 0; padding: .75rem 0; }
  h2, h3, h4 { break-after: avoid; } .cause, .pair, .plot, dl > div { break-inside: avoid; }
  .pair { max-width: 16cm; } .wide { overflow: visible; }
  details::details-content { content-visibility: visible; block-size: auto; }
}
"""
