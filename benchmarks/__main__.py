"""Runs every benchmark that needs no argument: `make bench`."""

from benchmarks import train_rate

train_rate.main()
