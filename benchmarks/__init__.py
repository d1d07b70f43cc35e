"""Measures the figures of docs/reference/benchmarks.md: ratios to a program that does the same work, in one run."""
