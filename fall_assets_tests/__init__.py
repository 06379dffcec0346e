"""Tests: a test per promise; this package mirrors `fall_assets`."""
