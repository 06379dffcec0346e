"""Checks on what is published. A check on a partitioned asset carries the same partitions.

Rows are validated before they are committed (`lake.validation`); these checks look at meaning.
"""
