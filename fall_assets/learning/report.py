"""An evaluation as one HTML page that needs nothing else, for people who decide.

What belongs here: putting figures, plots and sheets on a page. What does not: computing any of
them. The page holds no script and loads nothing; every word that comes from data is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fall_assets.learning.calibration import NOTE, Calibration
from fall_assets.learning.contact_sheets import Sheet
from fall_assets.learning.leakage import Leakage
from fall_assets.learning.metrics import Row
from fall_assets.markup import document
from fall_assets.markup import picture as _picture
from fall_assets.markup import table as _table
from fall_assets.markup import text as _text

_TWINS = 20


@dataclass(frozen=True)
class Evaluation:
    """Everything that is known of a candidate, for the report and the model card.

    Attributes:
        run_id: its run in MLflow.
        training_set_id: the set that it learned from and was judged on.
        evaluated_utc: when.
        rows: by slice, of `slices.sliced_metrics`.
        about: plain facts in order: algorithm, feature set, parameters, commit, pins.
        champion: the champion's rows on the same footage; empty where nothing serves.
        champion_run: its run.
        comparisons: of `slices.compare`.
        calibration: by window.
        leakage: what folds share.
        verdict: the gate's word, where it was asked.
        reasons: its reasons.
        plots: PNGs by title.
        sheets: missed falls and false alarms.
        left_out: moments that are in the lists but have no sheet, to keep the page small.
        robustness: rows of `robustness.losses`, where it was measured.
    """

    run_id: str
    training_set_id: str
    evaluated_utc: datetime
    rows: Sequence[Row]
    about: Mapping[str, Any] = field(default_factory=dict)
    champion: Sequence[Row] = ()
    champion_run: str | None = None
    comparisons: Sequence[Row] = ()
    calibration: Calibration | None = None
    leakage: Leakage | None = None
    verdict: str | None = None
    reasons: Sequence[str] = ()
    plots: Mapping[str, bytes] = field(default_factory=dict)
    sheets: Sequence[Sheet] = ()
    left_out: int = 0
    robustness: Sequence[Row] = ()

    @property
    def everything(self) -> Row:
        """The row of all footage."""
        return next(row for row in self.rows if row["slice"] == "all")


def with_interval(row: Row, figure: str, digits: int = 3) -> str:
    """A figure with its 95 % interval, as '0.950 (0.833 to 0.987)'; 'unknown' where it is not."""
    value = row.get(figure)
    if value is None:
        return "unknown"
    stem, unit = (figure[:-2], "_s") if figure.endswith("_s") else (figure, "")
    low, high = row.get(f"{stem}_low{unit}"), row.get(f"{stem}_high{unit}")
    shown = f"{float(value):.{digits}f}"
    if low is None or high is None:
        return f"{shown} (no interval)"
    return f"{shown} ({float(low):.{digits}f} to {float(high):.{digits}f})"


def html_report(evaluation: Evaluation) -> str:
    """The page, as text to be written in UTF-8."""
    title = f"Evaluation of {evaluation.run_id}"
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<p>{_text(headline(evaluation.everything))}</p>",
        _verdict(evaluation),
        _facts(evaluation),
        "<h2>By slice</h2>",
        "<p>Falls and false alarms are counted as events; a fall that two files of one camera "
        "hold counts once. Every figure has its 95 % interval: Wilson's for sensitivity and "
        "precision, the exact one for false alarms per camera-day, resampled scenes for F1 and "
        "delay.</p>",
        metrics_table(evaluation.rows),
    ]
    if evaluation.champion:
        parts += [
            f"<h2>Champion {_text(evaluation.champion_run)} on the same footage</h2>",
            metrics_table(evaluation.champion),
        ]
    if evaluation.comparisons:
        parts += [
            "<h2>Candidate against champion</h2>",
            "<p>Paired: the same scenes are drawn for both. The interval is that of the "
            "difference, candidate less champion; the last column is in which share of the "
            "resamples the candidate is worse.</p>",
            _comparisons(evaluation.comparisons),
        ]
    if evaluation.plots:
        parts.append("<h2>Plots</h2>")
        parts += [_picture(png, name) for name, png in evaluation.plots.items()]
    if evaluation.calibration is not None:
        parts += ["<h2>Calibration</h2>", _calibration(evaluation.calibration)]
    if evaluation.leakage is not None:
        parts += ["<h2>What folds share</h2>", _leakage(evaluation.leakage)]
    if evaluation.robustness:
        parts += [
            "<h2>Robustness</h2>",
            "<p>The same segments again, changed; the same detector and threshold.</p>",
            _table(
                list(evaluation.robustness[0]),
                ([_cell(value) for value in row.values()] for row in evaluation.robustness),
            ),
        ]
    parts.append(_sheets(evaluation))
    body = "\n".join(part for part in parts if part)
    return document(title, body, _STYLE)


def headline(row: Row) -> str:
    """What a ward asks first, in a sentence."""
    days = float(row["camera_days"] or 0.0)
    return (
        f"{row['found']} of {row['falls']} falls found (sensitivity "
        f"{with_interval(row, 'sensitivity')}), {row['false_alarms']} false alarms in "
        f"{days * 24:.2f} hours of footage ({with_interval(row, 'false_alarms_per_camera_day', 1)} "
        f"per camera-day), F1 {with_interval(row, 'f1')}, median delay "
        f"{with_interval(row, 'delay_median_s', 1)} s, 95 % within "
        f"{with_interval(row, 'delay_p95_s', 1)} s."
    )


def metrics_table(rows: Sequence[Row]) -> str:
    """Rows of an evaluation as an HTML table."""
    columns = [
        "slice", "value", "falls", "found", "sensitivity", "false alarms", "hours",
        "false alarms per camera-day", "precision", "F1", "median delay (s)", "p95 delay (s)",
        "scenes",
    ]  # fmt: skip
    return _table(
        columns,
        (
            [
                _text(row["slice"]),
                _text(row["value"]),
                _cell(row["falls"]),
                _cell(row["found"]),
                _text(with_interval(row, "sensitivity")),
                _cell(row["false_alarms"]),
                _text(f"{float(row['camera_days'] or 0.0) * 24:.2f}"),
                _text(with_interval(row, "false_alarms_per_camera_day", 1)),
                _text(with_interval(row, "precision")),
                _text(with_interval(row, "f1")),
                _text(with_interval(row, "delay_median_s", 1)),
                _text(with_interval(row, "delay_p95_s", 1)),
                _cell(row.get("scenes")),
            ]
            for row in rows
        ),
    )


def _verdict(evaluation: Evaluation) -> str:
    if evaluation.verdict is None:
        return ""
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in evaluation.reasons)
    return f"<h2>The gate: {_text(evaluation.verdict)}</h2><ul>{reasons}</ul>"


def _facts(evaluation: Evaluation) -> str:
    facts = {
        "run": evaluation.run_id,
        "training set": evaluation.training_set_id,
        "evaluated": f"{evaluation.evaluated_utc:%Y-%m-%d %H:%M} UTC",
        **evaluation.about,
    }
    return _table(["what", "which"], ([_text(k), _cell(v)] for k, v in facts.items()))


def _comparisons(rows: Sequence[Row]) -> str:
    return _table(
        [
            "slice", "value", "figure", "falls", "hours", "scenes", "candidate", "champion",
            "difference", "95 % interval", "worse in",
        ],
        (
            [
                _text(row["slice"]),
                _text(row["value"]),
                _text(row["figure"]),
                _cell(row["falls"]),
                _text(f"{float(row['camera_days'] or 0.0) * 24:.2f}"),
                _cell(row["scenes"]),
                _cell(row["candidate"]),
                _cell(row["champion"]),
                _cell(row["difference"]),
                _text(
                    "none"
                    if row["low"] is None or row["high"] is None
                    else f"{float(row['low']):.3f} to {float(row['high']):.3f}"
                ),
                _text(
                    "" if row["worse_share"] is None else f"{float(row['worse_share']):.0%}"
                ),
            ]
            for row in rows
        ),
    )  # fmt: skip


def _calibration(found: Calibration) -> str:
    if found.ece is None or found.brier is None:
        return "<p>No window has a certain truth.</p>"
    interval = (
        "no interval, one scene"
        if found.ece_low is None or found.ece_high is None
        else f"resampled {found.ece_low:.3f} to {found.ece_high:.3f}"
    )
    table = _table(
        ["score", "windows", "scenes", "mean score", "share that shows a fall", "95 % interval"],
        (
            [
                _text(f"{one.low:.1f} to {one.high:.1f}"),
                _cell(one.windows),
                _cell(one.scenes),
                _cell(one.mean_score),
                _cell(one.share),
                _text(
                    "none"
                    if one.share_low is None or one.share_high is None
                    else f"{one.share_low:.3f} to {one.share_high:.3f}"
                ),
            ]
            for one in found.bins
        ),
    )
    return (
        f"<p>Expected calibration error {found.ece:.3f} ({_text(interval)}), Brier score "
        f"{found.brier:.3f}, over {found.windows} windows of which {found.falls} show a fall. "
        f"{_text(NOTE)}</p>{table}"
    )


def _leakage(found: Leakage) -> str:
    word = "passed" if found.passed else "FAILED"
    drawn = (
        "" if found.compared == found.windows
        else f" ({found.compared} of {found.windows} were drawn)"
    )  # fmt: skip
    parts = [f"<p>{word}: {_text(found.text)}{drawn}.</p>"]
    if found.twins:
        parts.append(
            _table(
                ["segment", "fold", "at (s)", "other", "fold", "at (s)", "windows", "distance"],
                (
                    [
                        _text(twins.video_id[:12]),
                        _cell(twins.fold),
                        _cell(twins.end_s),
                        _text(twins.other_id[:12]),
                        _cell(twins.other_fold),
                        _cell(twins.other_end_s),
                        _cell(twins.windows),
                        _cell(twins.distance),
                    ]
                    for twins in found.twins[:_TWINS]
                ),
            )
        )
    return "".join(parts)


def _sheets(evaluation: Evaluation) -> str:
    parts = []
    for kind, title in (("missed fall", "Missed falls"), ("false alarm", "False alarms")):
        own = [sheet for sheet in evaluation.sheets if sheet.moment.kind == kind]
        parts.append(f"<h2>{title} ({len(own)})</h2>")
        if not own:
            parts.append("<p>None.</p>")
        for sheet in own:
            parts.append(f"<p>{_text(sheet.moment.facts)}</p>")
            parts.append(
                "<p>No pictures: the footage is gone, cannot be opened, or there were too many.</p>"
                if sheet.png is None
                else _picture(sheet.png, sheet.moment.facts)
            )
    if evaluation.left_out:
        parts.append(
            f"<p>{evaluation.left_out} of these have no pictures, to keep the page small.</p>"
        )
    return "\n".join(parts)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return _text(f"{value:.3f}" if isinstance(value, float) else value)


_STYLE = (
    "body{font:15px/1.45 sans-serif;max-width:1500px;margin:1.5em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;font-size:13px}"
    "td,th{border:1px solid #ccc;padding:3px 7px;text-align:left;vertical-align:top}"
    "th{background:#f2f4f7}.wide{overflow-x:auto;margin:.5em 0 1em}"
    "img{max-width:100%;margin:.3em .6em .6em 0}"
)
