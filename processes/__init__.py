"""Processes that experiments and benchmarks start, wait for and end; never any other."""
