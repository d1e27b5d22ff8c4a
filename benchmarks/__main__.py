"""Runs the benchmarks that need no other environment, one after the other: `make bench`.

Those that time a peer (`towers`, `train_step`, `zero_shot_classifier`, `tokenizer`, `input_path`,
`tar_reading`, `train_rate`) are run by the Python of the peers' environment, each by its name; so
is `gpu`, which times everything on a CUDA device.
"""

import subprocess
import sys

for name in ("loss", "optimizer", "linear_probe", "index"):
    print(f"== {name}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=True)
