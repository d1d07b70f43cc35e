"""Measures what docs/reference/benchmarks.md shows: ratios to something that does the same work, in one run."""
