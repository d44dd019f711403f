"""The harness is a process of its own, whose modules pytest need not search for doctests."""

collect_ignore = ["families.py", "harness.py", "kills.py", "runs.py"]
