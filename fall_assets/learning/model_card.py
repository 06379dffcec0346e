"""A model card in Markdown, from the figures of its evaluation.

What belongs here: what a hospital must know before it lets a model watch patients, after Mitchell
et al., Model Cards for Model Reporting, FAT* 2019. What does not: any figure that the evaluation
does not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fall_assets.learning.metrics import Row
from fall_assets.learning.plots import slice_name
from fall_assets.learning.report import Evaluation, headline, with_interval

MANY_FALLS = 5
"""A slice with fewer falls is not named as weak: its interval says nothing."""

LITTLE_FOOTAGE_DAYS = 1.0
_EXAMPLES = 20


def model_card(evaluation: Evaluation) -> str:
    """The card, as Markdown."""
    row = evaluation.everything
    parts = [
        f"# Model card: {_plain(evaluation.run_id)}",
        "## What it is",
        _list([f"{_plain(name)}: {_plain(value)}" for name, value in evaluation.about.items()]),
        "## What it is for",
        "It scores a few seconds of a fixed camera's footage and raises an alert where it believes "
        "that somebody fell. It is an aid for staff, no medical device, and replaces no round, no "
        "call button and no bed rail. It is not meant for moving cameras, for anybody's "
        "identification, or as the only way in which a fall is noticed.",
        "## How well it does",
        headline(row),
        "Judged on footage that the judged networks had not seen (cross-validation by fold; whole "
        "scenes and people lie in one fold). All intervals are 95 %.",
        *_warnings(evaluation),
        "### By slice",
        _slices(evaluation.rows),
        "### Where it is weak",
        _list(weak_slices(evaluation.rows))
        or f"No slice with {MANY_FALLS} falls or more is clearly worse than the whole.",
    ]
    if evaluation.verdict is not None:
        parts += [
            f"## The gate: {_plain(evaluation.verdict)}",
            _list([_plain(reason) for reason in evaluation.reasons]),
        ]
    found = evaluation.calibration
    if found is not None and found.ece is not None:
        parts += [
            "## Scores",
            f"Expected calibration error {found.ece:.3f} over {found.windows} windows, of which "
            f"{found.falls} show a fall. A score is no probability for a ward with other "
            "patients, and the threshold was chosen on this footage.",
        ]
    if evaluation.robustness:
        parts += ["## When pictures get worse", _robustness(evaluation.robustness)]
    missed = [s.moment.facts for s in evaluation.sheets if s.moment.kind == "missed fall"]
    alarms = [s.moment.facts for s in evaluation.sheets if s.moment.kind == "false alarm"]
    parts += [
        f"## Falls that it missed ({len(missed)})",
        _examples(missed),
        f"## False alarms ({len(alarms)})",
        _examples(alarms),
        "## Where it comes from",
        f"Training set {_plain(evaluation.training_set_id)}, judged "
        f"{evaluation.evaluated_utc:%Y-%m-%d %H:%M} UTC. `fall-assets reproduce "
        f"{_plain(evaluation.run_id)}` rebuilds it from its record.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def weak_slices(rows: Sequence[Row]) -> list[str]:
    """Slices whose whole interval of the sensitivity lies under that of all footage.

    Only slices with at least `MANY_FALLS` falls. With many slices, one may be there by chance.
    """
    everything = next((row for row in rows if row["slice"] == "all"), None)
    if everything is None or everything["sensitivity"] is None:
        return []
    return [
        f"{_plain(slice_name(row))}: {row['found']} of {row['falls']} falls "
        f"found, sensitivity {with_interval(row, 'sensitivity')}"
        for row in rows
        if row["slice"] != "all"
        and int(row["falls"] or 0) >= MANY_FALLS
        and row["sensitivity_high"] is not None
        and float(row["sensitivity_high"]) < float(everything["sensitivity"])
    ]


def _warnings(evaluation: Evaluation) -> list[str]:
    row = evaluation.everything
    days = float(row["camera_days"] or 0.0)
    warnings = []
    if days < LITTLE_FOOTAGE_DAYS:
        warnings.append(
            f"**Little footage**: {days * 24:.2f} hours. The rate of false alarms is not known "
            "better than its interval says, and labelled footage holds more movement than a ward."
        )
    if evaluation.leakage is not None and not evaluation.leakage.passed:
        warnings.append(
            f"**Folds share footage**, which flatters: {_plain(evaluation.leakage.text)}."
        )
    return warnings


def _slices(rows: Sequence[Row]) -> str:
    lines = [
        "| slice | falls found | sensitivity | false alarms per camera-day | F1 |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {_plain(slice_name(row))} | {row['found']} of {row['falls']} | "
        f"{with_interval(row, 'sensitivity')} | "
        f"{with_interval(row, 'false_alarms_per_camera_day', 1)} | {with_interval(row, 'f1')} |"
        for row in rows
    ]
    return "\n".join(lines)


def _robustness(rows: Sequence[Row]) -> str:
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = [f"{v:.3f}" if isinstance(v, float) else _plain(v) for v in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _examples(facts: Sequence[str]) -> str:
    if not facts:
        return "None on this footage."
    more = len(facts) - _EXAMPLES
    shown = [_plain(sentence) for sentence in facts[:_EXAMPLES]]
    return _list([*shown, *([f"and {more} more, in the report"] if more > 0 else [])])


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _plain(value: Any) -> str:
    """Text that ends no cell and opens no tag, whatever a camera is called."""
    text = "" if value is None else str(value)
    for sign, instead in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(sign, instead)
    return text
