"""Benchmarks, each one command, each beside a peer on the same inputs."""
