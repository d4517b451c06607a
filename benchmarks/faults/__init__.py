"""Faults: everything is killed at random while callers check what they get. `python -m benchmarks.faults`."""
