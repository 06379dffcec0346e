"""What runs on the box beside the cameras: watching streams, raising alerts, delivering them.

What belongs here: code that goes into the edge package; it imports nothing that brings polars,
torch, dagster, mlflow, scipy or pyarrow. What does not: making packages (`delivery/`).
"""
