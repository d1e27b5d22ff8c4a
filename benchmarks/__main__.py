"""Runs the benchmarks that need no other environment, one after the other: `make bench`.

Those that time a peer in the same process (`tokenizer`, `towers`, `train_step`) are run by the
Python of the peers' environment, each by its name; so is `train_rate`, which is told where it is.
"""

import subprocess
import sys

for name in ("loss", "optimizer", "linear_probe", "index"):
    print(f"== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
