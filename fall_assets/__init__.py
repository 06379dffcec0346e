"""fall_assets: detect patient falls in hospital video, and keep detecting them.

Two kinds of code live here. The Dagster layer (`definitions`, `assets/`, `checks/`,
`automation/`, `resources/`) is a thin shell; the domain packages (`lake/`, `footage/`,
`labelling/`, `features/`, `learning/`, `delivery/`, `drift/`, `simulation/`) are plain typed
functions and never import dagster.
"""

__version__ = "0.1.0"
