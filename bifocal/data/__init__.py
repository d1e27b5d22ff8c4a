"""Samples: where they come from, their order, and batches."""
