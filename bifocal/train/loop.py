"""The training loop: steps, evaluations, checkpoints and a clean stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bifocal.errors import Interrupted, TrainingError
from bifocal.loss.predictive import Loss
from bifocal.train import best, checkpoint
from bifocal.train.hooks import Evaluate, Hook
from bifocal.train.rejected import REJECTED
from bifocal.train.state import Run
from bifocal.train.step import train_step


def train(run: Run, out: Path, loss_fn: Loss, hooks: Sequence[Hook], evaluate: Evaluate) -> None:
    """Train `run` to its end, leave the last checkpoint in `out` and evaluate.

    A run that is already at its end is only evaluated. One that was resumed at a step of evaluation
    evaluates first: its checkpoint does not say whether that was done.

    Ctrl-C or SIGTERM finishes the step, writes a checkpoint and raises `Interrupted`; a second
    Ctrl-C stops at once. Of several processes one asked to stop is enough; only the leading one
    evaluates and writes, while the others wait.

    Raises:
        Interrupted: the user asked to stop; the same command goes on from there.
        TrainingError: too many steps in a row had no finite loss or gradient.
        DataError: too many samples are bad.
        CheckpointError: a checkpoint, the best model or a record cannot be written.
    """
    config = run.config.train
    with stop_requests() as stop, closing(iter(run.loader())) as batches:
        if evaluation_due(run):
            _evaluate(run, out, hooks, evaluate)
        while run.step < run.total_steps:
            metrics = train_step(run, next(batches), loss_fn)
            for hook in hooks:
                hook.on_step(run, metrics)
            if run.rejected >= config.max_rejected:
                raise TrainingError(
                    f"the last {run.rejected} steps up to {run.step} had no finite loss or "
                    f"gradient and were not applied; their pairs and gradients are in {out}/"
                    f"{REJECTED}. Lower optim.lr, lengthen optim.warmup_steps or set "
                    "optim.max_grad_norm, with another out= (or without this one)"
                )
            last = run.step == run.total_steps
            # A step that was not applied may have been made so by those before it.
            if last or (run.step % config.checkpoint_every == 0 and not run.rejected):
                checkpoint.save(run, out)
            if evaluation_due(run):
                _evaluate(run, out, hooks, evaluate)
            if run.world.agree(stop.asked) and not last:
                folder = checkpoint.save(run, out)
                raise Interrupted(
                    f"stopped at step {run.step} of {run.total_steps}; saved {folder}. "
                    "Run the same command again to go on from there"
                )
        if not run.updates:
            raise TrainingError(
                f"none of the {run.step} steps had a finite loss and gradient, so that nothing was "
                f"trained; their pairs and gradients are in {out}/{REJECTED}. Lower optim.lr, or "
                "look at what the run starts from"
            )
        _evaluate(run, out, hooks, evaluate, last=True)


def evaluation_due(run: Run) -> bool:
    """Return whether the run stands at a step of evaluation, of those before its end."""
    every = run.config.train.evaluate_every
    return bool(every and run.step and run.step % every == 0 and run.step < run.total_steps)


@dataclass(slots=True)
class Stop:
    """Whether a run is asked to stop; without a lock, which a second signal might find taken."""

    asked: bool = False


@contextmanager
def stop_requests() -> Iterator[Stop]:
    """Turn the first SIGINT or SIGTERM into a request to stop; the second acts as usual.

    Signals reach only the main thread; elsewhere nobody asks.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(number: int, frame: object) -> None:
        stop.asked = True
        signal.signal(number, previous[number])

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous: dict[int, Any] = {n: signal.signal(n, request) for n in numbers}
    try:
        yield stop
    finally:
        for number in numbers:
            signal.signal(number, previous[number])


def _evaluate(
    run: Run, out: Path, hooks: Sequence[Hook], evaluate: Evaluate, last: bool = False
) -> None:
    measured = run.for_evaluation()
    if run.world.leads:
        metrics = evaluate(measured, last)
        for hook in hooks if metrics else ():
            hook.on_evaluation(run, metrics)
        if metrics:
            best.keep(measured, metrics, out)
    run.model.train()
    run.world.wait()
