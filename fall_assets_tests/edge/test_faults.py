"""A dozen kills of everything; `benchmarks.edge_faults` has two hundred."""

from __future__ import annotations

from pathlib import Path

from benchmarks.edge_faults import storm


def test_no_alert_is_lost_or_doubled(tmp_path: Path) -> None:
    result = storm(
        tmp_path / "storm", 12, seed=5, pause_s=(0.1, 0.6), boxes=1, quiet_s=60, say=False
    )
    assert sum(result.kills.values()) >= 12
    assert set(result.kills) == {"gateway", "box-1"}
    assert result.kept > 0
    assert result.lost == []
    assert result.doubled == []
    assert result.invented == []
    assert result.holds
