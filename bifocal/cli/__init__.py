"""The command line: one small file a verb; composes and computes nothing."""
