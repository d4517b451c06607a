"""Fuzzing: hostile bytes for everything that reads them. `python -m benchmarks.fuzz`; tests/security runs a few of each."""
