"""Recorded ticks: sealed columns in memory or on disk, and the readers that make them of what people have."""
