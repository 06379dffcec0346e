"""Footage: what recorders wrote becomes cameras, segments and a quarantine with reasons.

What belongs here: path templates, data sets without a clock, discovery, probing, intake, the
cameras' configuration and their telemetry. What does not: labels (`labelling/`), decoding for
features (`features/`) and writing tables (`lake/`).

Importing this package is cheap; `probe` and `intake` bring PyAV.
"""

from __future__ import annotations

from fall_assets.footage.template import DEFAULT, FRIGATE, PathTemplate, TemplateError

__all__ = ["DEFAULT", "FRIGATE", "PathTemplate", "TemplateError"]
