"""Enumerate, check, measure, run, record."""
