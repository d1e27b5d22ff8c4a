"""Training rate on real pairs: `bifocal train` beside open_clip's own trainer.

    python -m benchmarks.train_rate [--steps 40] [--peers .peers/bin/python]

Both train the architecture of recipes/flickr8k.toml, with OpenAI's vocabulary, on the same shards,
batch size, precision (float32), threads and machine, one after the other, twice each in turn. The
rate is the median over the steps after a warm-up, input pipeline included. Differences that stay,
because they are how each is used: open_clip reads one caption (the .txt) and crops at random with
at least 0.9 of the area; bifocal draws one of five captions.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bifocal.interop.open_clip_config import format_config
from bifocal.train.config import RunConfig
from bifocal.train.log import read_metrics
from bifocal.train.recipe import load_run

RECIPE = Path("recipes/flickr8k.toml")
VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
WARM_UP = 8
THREADS = 2

PEER = """
import sys, open_clip
open_clip.add_model_config(sys.argv[1])
from open_clip_train.main import main
main(sys.argv[2:])
"""


def bifocal_rate(steps: int, folder: Path) -> float:
    """Return the pairs a second of `bifocal train`, by its own log of every step."""
    command = [
        *(sys.executable, "-c", "from bifocal.cli.main import run; run()", "train", str(RECIPE)),
        *overrides(steps, folder),
    ]
    subprocess.run(command, check=True, capture_output=True)
    rows = [row for row in read_metrics(folder) if row["kind"] == "train"]
    return statistics.median(row["pairs_per_second"] for row in rows[WARM_UP:])


def open_clip_rate(python: str, config: RunConfig, steps: int, folder: Path) -> float:
    """Return the pairs a second of open_clip's trainer, by its own log of every step."""
    (folder / "models").mkdir(parents=True)
    (folder / "models" / "peer.json").write_text(json.dumps(format_config(config.model)))
    shards = config.data_root / config.data.train
    found = sorted(shards.parent.glob(shards.name))
    # open_clip takes a range in braces, as NAME-{000000..000005}.tar
    numbers = f"{{{found[0].stem[-6:]}..{found[-1].stem[-6:]}}}"
    batch = config.data.batch_size
    arguments = {
        "--model": "peer",
        "--train-data": str(shards.with_name(found[0].stem[:-6] + numbers + ".tar")),
        "--train-num-samples": str(steps * batch),
        "--dataset-type": "webdataset",
        "--batch-size": str(batch),
        "--epochs": "1",
        "--workers": str(THREADS),
        "--precision": "fp32",
        "--device": "cpu",
        "--lr": str(config.optim.lr),
        "--warmup": "10",
        "--logs": str(folder / "logs"),
        "--log-every-n-steps": "1",
        "--save-frequency": "0",
    }
    command = [python, "-c", PEER, str(folder / "models")]
    command += [part for pair in arguments.items() for part in pair] + ["--dataset-resampled"]
    done = subprocess.run(command, capture_output=True, text=True, env=peer_environment())
    rates = [float(rate) for rate in re.findall(r"([\d.]+)/s, ", done.stdout + done.stderr)]
    if len(rates) <= WARM_UP:
        raise SystemExit(f"open_clip did not train:\n{done.stderr[-3000:]}")
    return statistics.median(rates[WARM_UP:])


def overrides(steps: int, folder: Path) -> list[str]:
    """Return the settings that turn the recipe into a measurement."""
    return [
        f"out={folder}",
        f"tokenizer.path={VOCABULARY}",
        "model.text.vocab_size=49408",
        "train.epochs=1000",
        f"data.threads={THREADS}",
        "train.log_every=1",
        "train.evaluate_every=0",
        "evaluate.retrieval=false",
        "data.val=",
        f"train.steps={steps}",
    ]


def peer_environment() -> dict[str, str]:
    """Return the environment without what would let the peer see this project's packages."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def main() -> None:
    """Measure both in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--peers", default=".peers/bin/python")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if not Path(options.peers).exists():
        raise SystemExit(
            f"no peers at {options.peers}: build their environment, or name it by --peers"
        )
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        config = load_run(RECIPE, overrides(options.steps, root))
        ours, theirs = [], []
        for n in range(options.rounds):
            theirs.append(open_clip_rate(options.peers, config, options.steps, root / f"peer{n}"))
            ours.append(bifocal_rate(options.steps, root / f"ours{n}"))
    print(f"bifocal    {statistics.median(ours):8.1f} pairs/s  {[round(r, 1) for r in ours]}")
    print(f"open_clip  {statistics.median(theirs):8.1f} pairs/s  {[round(r, 1) for r in theirs]}")
    print(f"ratio      {statistics.median(ours) / statistics.median(theirs):8.2f}")


if __name__ == "__main__":
    main()
