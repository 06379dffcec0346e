"""Promises of the lake: what is written is read, and nothing is ever half there."""
