"""A run: settings, state, one step, the loop, checkpoints and metrics."""
