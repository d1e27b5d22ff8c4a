"""The campaign in its long form: `python -m tests.faults [WORD …]`.

Words choose the faults whose names hold one of them, `--room=kills` those of one file; `--short`
takes their short form, and `--write` puts the table into docs/reliability.md.
"""

# ruff: noqa: E402 - the campaign is found, and threads are limited, before torch is loaded

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))
os.environ.update(OMP_NUM_THREADS="1", MPLBACKEND="Agg", COLUMNS="80")

import torch
from faults import archives, disks, kills, moments, records, samples  # noqa: F401
from faults.campaign import FAULTS, run_all

DOCUMENT = TESTS.parent / "docs" / "reliability.md"
SHARED_MEMORY = Path("/dev/shm")
BEGIN, END = "<!-- campaign: written by python -m tests.faults --write -->", "<!-- /campaign -->"


def main() -> None:
    """Run the chosen faults, those that fork first: copies of a process with threads may hang."""
    torch.set_num_threads(1)
    # A shell's background job ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    logging.disable(logging.WARNING)  # losses are told by the thousand
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    rooms = [word.partition("=")[2] for word in sys.argv[1:] if word.startswith("--room=")]
    faults = sorted(FAULTS, key=lambda one: not one.forks)
    faults = [one for one in faults if not words or any(word in one.name for word in words)]
    faults = [one for one in faults if not rooms or one.room in rooms]
    memory = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None  # a kill is no power cut
    with tempfile.TemporaryDirectory(prefix="faults-", dir=memory) as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        rows, failed = run_all(faults, Path(folder), long="--short" not in sys.argv)
    if failed:
        sys.exit(f"not as expected: {', '.join(failed)}")
    if "--write" in sys.argv:
        table = "\n".join(["| fault | injected | outcome |", "|---|---|---|", *rows])
        text = DOCUMENT.read_text("utf-8")
        before, _, rest = text.partition(BEGIN)
        after = rest.partition(END)[2]
        DOCUMENT.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
