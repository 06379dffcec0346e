"""Whether a package scores on this machine as it did where it was built.

What belongs here: scoring the bundled clip and comparing with what is expected. What does not: how
two scores are compared (`parity`), and the comparison of all clips before a package is published.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fall_assets.edge.package import MODEL_FOLDER, SELF_TEST_FOLDER
from fall_assets.errors import FallAssetsError, PermanentFailureError

if TYPE_CHECKING:
    from fall_assets.edge.parity import FileScores

CLIP: Final = "clip.mp4"
EXPECTED: Final = "expected.json"
FORMAT: Final = 1
TOLERANCE: Final = 0.01
"""Of a score, between two machines: another processor rounds differently, and the networks carry
that on. Where the package is built, the bound is `parity.TOLERANCE`."""


class SelfTestError(PermanentFailureError):
    """The package does not score here as it should; it must not be started."""


@dataclass(frozen=True)
class SelfTest:
    """What was compared: windows, events, the largest difference of a score; seconds it took."""

    windows: int
    events: int
    difference: float
    took_s: float


def measure(package: Path) -> FileScores:
    """Scores and events of the bundled clip, as this process computes them; gate open.

    Raises:
        SelfTestError: the model or the clip cannot be used.
    """
    from fall_assets.edge.model import EdgeModel
    from fall_assets.edge.parity import score_file

    try:
        model = EdgeModel.load(package / MODEL_FOLDER)
        return score_file(model, package / SELF_TEST_FOLDER / CLIP, gate="open")
    except FallAssetsError as error:
        raise SelfTestError(f"the bundled clip cannot be scored: {error}") from error


def run_self_test(package: Path) -> SelfTest:
    """Score the bundled clip of a package's directory and compare.

    Raises:
        SelfTestError: it cannot be scored, or the scores or events are others.
    """
    from fall_assets.edge.parity import FileScores, compare

    began = time.perf_counter()
    path = package / SELF_TEST_FOLDER / EXPECTED
    try:
        content: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        expected = FileScores.from_dict(content["package"])
        tolerance = float(content["tolerance"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SelfTestError(f"{path} holds no expected scores: {error!r}") from error
    found = measure(package)
    wrong = compare(found, expected, tolerance=tolerance)
    if wrong:
        raise SelfTestError(f"scores here and as expected differ: {'; '.join(wrong)}")
    off = [abs(one - other) for one, other in zip(found.score, expected.score, strict=True)]
    return SelfTest(
        len(found.score), len(found.events), max(off, default=0.0), time.perf_counter() - began
    )
