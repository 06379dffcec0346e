"""The service between boxes, wards and the platform (`fall-gateway`), and the ward's page.

What belongs here: taking in alerts and telemetry from boxes, showing alerts to wards, telling
contacts, and handing what came in to the platform. What does not: detecting falls (`edge`), the
lake and labels (the platform pulls them), TLS (a proxy ends it). Loads without Dagster, torch, av.
"""
