"""What the two recipes' models can do, with intervals: writes docs/results.md.

    bifocal train recipes/cifar10.toml && bifocal train recipes/flickr8k.toml
    python -m experiments.results

Every figure is that of one `bifocal` command, which stands beside it. Pictures are read once, by
`bifocal embed`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from bifocal.data.sources import Reading, open_source
from bifocal.evaluate.multi_label import MEANS, RANKING
from bifocal.train.recipe import DATA_ROOT
from experiments.shared_nouns import NOUNS, write_shared_nouns

MODELS = {"cifar10": "runs/cifar10", "flickr8k": "runs/flickr8k"}
LABELLED = {"cifar10": "cifar10/test-*.tar", "tiny_imagenet": "tiny_imagenet/val-*.tar"}
PROMPTS = {
    "the bare name": ["--template", "{}"],
    "one prompt": ["--template", "a photo of a {}."],
    "one engineered prompt": ["--template", "a low resolution photo of a {}."],
    "ensemble of 80": ["--templates", "small:80"],
}
PHOTOGRAPHS = "flickr8k/val-*.tar"
CHANCE = {"cifar10": "10 %", "tiny_imagenet": "0.5 %"}
HEAD = """# Results

What models of a few minutes on two CPU cores can do, measured by the commands below; intervals are
95 % (BCa bootstrap over pictures). `runs/cifar10` has seen 10,000 labelled CIFAR-10 pictures as
template captions, `runs/flickr8k` 6,000 photographs with human captions. 75 of CIFAR-10's test
pictures have a near copy among those 10,000 (`bifocal evaluate contamination`): without them top-1
is 74.2 %. Written by `python -m experiments.results`.
"""


def bifocal(*arguments: str) -> str:
    """Run a command of bifocal's and return it as it is typed."""
    command = [sys.executable, "-m", "bifocal", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return "bifocal " + shlex.join(arguments)


def measured(out: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Run an evaluation and return its record and its command, written without where it writes."""
    bifocal(*arguments, "--json", str(out))
    return json.loads(out.read_text("utf-8")), "bifocal " + shlex.join(arguments)


def shown(record: dict[str, Any], metric: str) -> str:
    """Return a figure with its interval, in per cent."""
    interval = record["intervals"][metric]
    low, high = 100 * interval["low"], 100 * interval["high"]
    return f"{100 * record['metrics'][metric]:.1f} ({low:.1f} – {high:.1f})"


def zero_shot(out: Path) -> list[str]:
    """Return the table of prompts by model and data set."""
    lines = ["## Zero-shot classification, top-1 in per cent", ""]
    lines += ["| model | data (chance) | " + " | ".join(PROMPTS) + " |", "|---" * 6 + "|"]
    commands: list[str] = []
    for model, folder in MODELS.items():
        for name, data in LABELLED.items():
            features = out / f"{model}-{name}"
            commands.append(bifocal("embed", folder, data, str(features)))
            cells = []
            for number, prompt in enumerate(PROMPTS.values()):
                record, command = measured(
                    out / f"{model}-{name}-{number}.json",
                    *("evaluate", "zero-shot", folder, data, *prompt, "--features", str(features)),
                )
                cells.append(shown(record, "top1"))
                commands.append(command)
            lines.append(f"| {model} | {name} ({CHANCE[name]}) | " + " | ".join(cells) + " |")
    return [*lines, "", "```bash", *commands, "```", ""]


def compared(out: Path) -> list[str]:
    """Return what the ensemble is worth beside one prompt, picture by picture."""
    pair = [str(out / f"cifar10-cifar10-{number}.json") for number in (3, 1)]
    done = subprocess.run(
        [sys.executable, "-m", "bifocal", "evaluate", "compare", *pair],
        check=True,
        capture_output=True,
        text=True,
    )
    head = "The ensemble (first) beside the one prompt (second), on the same CIFAR-10 pictures:"
    command = "bifocal evaluate compare " + shlex.join(pair)
    return [head, "", "```", f"$ {command}", done.stdout.strip("\n"), "```", ""]


def several_classes(out: Path) -> list[str]:
    """Return average precision on photographs of several classes each."""
    where = out / "shared-nouns"
    root = Path(os.environ.get(DATA_ROOT, ""))
    write_shared_nouns(open_source(PHOTOGRAPHS, Reading(root=root)), where)
    lines = [
        f"## Several classes a photograph: {len(NOUNS)} nouns in Flickr8k val",
        "",
        "A photograph is of a noun if two of its captions hold it (experiments/shared_nouns.py).",
        "",
        "| model | prompt | mAP | 11-point mAP | label ranking | chance |",
        "|---" * 6 + "|",
    ]
    commands = []
    for (model, folder), prompt in itertools.product(MODELS.items(), list(PROMPTS)[:2]):
        record, command = measured(
            out / f"{model}-nouns-{len(commands)}.json",
            *("evaluate", "zero-shot", folder, str(where.resolve())),
            *("--multi-label", *PROMPTS[prompt]),
        )
        # Data begin at their root unless they begin at the machine's.
        commands.append(command.replace(str(where.resolve()), f'"$PWD/{where}"'))
        cells = [shown(record, metric) for metric in (*MEANS, RANKING)]
        chance = f"{100 * record['metrics']['chance']:.1f}"
        lines.append(f"| {model} | {prompt} | {' | '.join([*cells, chance])} |")
    return [*lines, "", "```bash", *commands, "```", ""]


def retrieval(out: Path) -> list[str]:
    """Return recalls on Flickr8k's validation photographs."""
    lines = ["## Retrieval, Flickr8k val: 1,000 photographs, five captions each", ""]
    lines += ["| model | way | R@1 | R@5 | R@10 | median rank |", "|---" * 6 + "|"]
    commands = []
    for model, folder in MODELS.items():
        record, command = measured(
            out / f"{model}-retrieval.json", "evaluate", "retrieval", folder, PHOTOGRAPHS
        )
        commands.append(command)
        for way in ("image_to_text", "text_to_image"):
            recalls = [shown(record, f"{way}_recall@{k}") for k in (1, 5, 10)]
            rank = f"{record['metrics'][f'{way}_median_rank']:.0f}"
            cells = " | ".join([*recalls, rank])
            lines.append(f"| {model} | {way.replace('_', ' ')} | {cells} |")
    return [*lines, "", "```bash", *commands, "```", ""]


def probes(out: Path) -> list[str]:
    """Return linear probes on CIFAR-10 by both protocols, and few-shot probes by the paper's."""
    lines = ["## Linear probes, CIFAR-10: 10,000 pictures to learn from, 10,000 to test", ""]
    lines += ["| model | protocol | accuracy in per cent |", "|---|---|---|"]
    commands = []
    for model, folder in MODELS.items():
        for protocol, metric in (("paper", "top1"), ("clip_benchmark", "lp_acc1")):
            record, command = measured(
                out / f"{model}-probe-{protocol}.json",
                *("evaluate", "linear-probe", folder, "--train", "cifar10/train-*.tar"),
                *("--test", "cifar10/test-*.tar", "--protocol", protocol),
            )
            commands.append(command)
            lines.append(f"| {model} | {protocol} | {shown(record, metric)} |")
    return [*lines, "", "```bash", *commands, "```", ""]


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/results"))
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    parts = (zero_shot, compared, several_classes, retrieval, probes)
    sections = [line for part in parts for line in part(options.out)]
    options.page.write_text("\n".join([HEAD, *sections]).rstrip("\n") + "\n", "utf-8")


if __name__ == "__main__":
    main()
