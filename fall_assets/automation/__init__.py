"""Automation: conditions, sensors and schedules. Visible, named, and tested by real ticks."""
