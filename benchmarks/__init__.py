"""Benchmarks: every figure beside its floor, in one run."""
