"""Finds, validates, checks and calls drivers and extensions."""
