"""Predictive losses written out pair by pair, and batches split every way, in float64.

Run over threads that stand for processes, and over real ones.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bifocal.data.batch import Batch
from bifocal.train.batch_norm import RunningStatistics
from bifocal.train.config import RunConfig
from bifocal.train.objective import loss_of
from bifocal.train.predictive import predict_chunks
from bifocal.train.prepare import prepare
from bifocal.train.recipe import resolve_run
from bifocal.train.state import Run
from bifocal.train.step import sum_gradients
from bifocal.world import ALONE, World, join_world

PAIRS = 12
BOUND = 1e-12
FORMS = ("bag_of_words", "caption")
VISION = {
    "vit": {"image_size": 32, "patch_size": 8, "width": 16, "layers": 2, "heads": 2},
    "resnet": {"image_size": 32, "width": 4, "layers": [1, 1, 1, 1], "heads": 2},
}
CASES = (
    ("vit", 1, True),
    ("vit", 2, False),
    ("vit", PAIRS, False),
    ("resnet", 3, True),
    ("resnet", 3, False),
)
"""Image tower, pairs of a chunk at most, and whether blocks are read again for the gradients.
BatchNorm's statistics are a chunk's, so that its chunks must be the same."""
TEXT: dict[str, dict[str, Any]] = {
    "bag_of_words": {"kind": "bag_of_words"},
    "transformer": {"layers": 2, "heads": 2},
}


class Exact:
    """Preprocessing in float64."""

    image_size = 32

    def normalize(self, images: Tensor) -> Tensor:
        return images.double() / 128 - 1


class Threads:
    """A sum over threads that stand for processes."""

    def __init__(self, size: int) -> None:
        self.barrier, self.parts = threading.Barrier(size), [torch.empty(0)] * size


@dataclass(frozen=True)
class Threaded(World):
    """A world whose processes are threads."""

    shared: Threads | None = None

    def sum_(self, tensor: Tensor) -> Tensor:
        assert self.shared is not None
        self.shared.parts[self.rank] = tensor.clone()
        self.shared.barrier.wait()
        tensor.copy_(torch.stack(self.shared.parts).sum(dim=0))
        self.shared.barrier.wait()
        return tensor


def settings(form: str, vision: str = "vit", kind: str = "", **tables: Any) -> RunConfig:
    kind = kind or ("bag_of_words" if form == "bag_of_words" else "transformer")
    table: dict[str, Any] = {
        "out": "unused",
        "model": {
            "embed_dim": 8,
            "vision": VISION[vision],
            "text": {"context_length": 16, "vocab_size": 600, "width": 16, **TEXT[kind]},
        },
        "data": {"train": "scenes:train:48", "batch_size": PAIRS, "threads": 0},
        "loss": {"form": form},
        "optim": {"lr": 1e-3},
        "train": {"steps": 1, "device": "cpu"},
        "evaluate": {"retrieval": False},
    }
    for name, values in tables.items():
        table[name] = {**table.get(name, {}), **values} if isinstance(values, dict) else values
    return resolve_run(table, "test")


@cache
def exact(form: str, vision: str) -> tuple[Run, Batch]:
    """Return a run in float64 and a batch of it; both are copied, not changed."""
    run = prepare(settings(form, vision), ALONE, print)
    run.model.double()
    run.preprocess = Exact()
    batch = next(iter(run.loader()))
    batch.tokens[3, 2] = batch.tokens[3, 1]  # a word that occurs twice
    return run, batch


@cache
def expected(form: str, vision: str, size: int) -> dict[str, Tensor]:
    """Return what one process makes of the batch in chunks of `size`."""
    run, batch = exact(form, vision)
    return gradients(run, batch, size)


def gradients(run: Run, batch: Batch, size: int) -> dict[str, Tensor]:
    """Return loss, gradients and running statistics of one batch, as a training step has them."""
    run = copy.copy(run)
    run.model = copy.deepcopy(run.model)
    statistics = RunningStatistics(run.model)
    loss_fn = loss_of(run.config)
    loss = predict_chunks(run, batch.split(size), statistics, loss_fn)
    sum_gradients(run.model, run.world)
    statistics.finish(run.world, keep=True)
    found = {n: p.grad for n, p in run.model.named_parameters() if p.grad is not None}
    return found | dict(run.model.named_buffers()) | {"loss": loss}


def plain_gradients(run: Run, batch: Batch) -> dict[str, Tensor]:
    """Return loss and gradients of the formulas, pair by pair and without padding."""
    model = copy.deepcopy(run.model)
    images = model.visual(run.preprocess.normalize(batch.images))
    cost = {"bag_of_words": words_cost, "caption": caption_cost}[run.config.loss.form]
    rows = zip(images, batch.tokens.tolist(), batch.lengths.tolist(), strict=True)
    costs = [cost(model, image, torch.tensor(ids[:length])) for image, ids, length in rows]
    loss = torch.stack(costs).sum() / len(costs)
    loss.backward()
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return found | {"loss": loss.detach()}


def words_cost(model: Any, image: Tensor, ids: Tensor) -> Tensor:
    words = sorted(set(ids[1:-1].tolist()))
    logits = model.token_embedding.weight @ (model.text_projection @ image)
    costs = [F.cross_entropy(logits[None], torch.tensor([word])) for word in words]
    return torch.stack(costs).mean()


def caption_cost(model: Any, image: Tensor, ids: Tensor) -> Tensor:
    rows = [model.text_projection @ image, *(model.token_embedding.weight[n] for n in ids[1:-1])]
    x = torch.stack(rows) + model.positional_embedding[: len(rows)]
    logits = model.ln_final(model.transformer(x[None])[0]) @ model.token_embedding.weight.T
    return F.cross_entropy(logits, ids[1:], reduction="sum")


def compare(wanted: dict[str, Tensor], found: dict[str, Tensor], case: object) -> None:
    assert wanted.keys() <= found.keys(), case
    for name, value in wanted.items():
        error = (value - found[name]).abs().max().item()
        assert error <= BOUND * max(1.0, value.abs().max().item()), f"{case}: {name} {error:.1e}"


def check(world: World, form: str) -> int:
    """Compare every split of a batch with what one process makes of it; a collective call."""
    local = PAIRS // world.size
    for case in CASES:
        vision, size, checkpointing = case
        plain, batch = exact(form, vision)
        run = copy.copy(plain)
        run.world, run.model = world, copy.deepcopy(plain.model)
        run.model.set_gradient_checkpointing(checkpointing)
        found = gradients(run, batch.split(local)[world.rank], size)
        compare(expected(form, *reference(vision, size)), found, (world, form, case))
    return len(CASES)


def reference(vision: str, size: int) -> tuple[str, int]:
    return vision, PAIRS if vision == "vit" else size


def in_threads(size: int, work: Callable[[World], int]) -> list[int]:
    for form, (vision, chunk, _) in product(FORMS, CASES):  # before several threads ask for it
        expected(form, *reference(vision, chunk))
    shared = Threads(size)
    worlds = [Threaded(rank, size, torch.device("cpu"), shared=shared) for rank in range(size)]
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(work, worlds))


def main() -> None:
    """Check both forms; a collective call of a world's processes."""
    with join_world("cpu") as joined:
        print(f"compared {sum(check(joined, form) for form in FORMS)}")
