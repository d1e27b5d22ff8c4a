"""The optimizer, its parameter groups and the schedule."""
