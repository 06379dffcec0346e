"""Tests of the data sets, on small trees in their own layouts."""
