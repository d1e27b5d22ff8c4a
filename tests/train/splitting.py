"""Every way of splitting one batch, beside the plain way; run by one process and by several.

Float64 throughout, so that what differs is the split and not the rounding.
"""

from __future__ import annotations

import copy
import itertools
import math

import torch

from bifocal.data.batch import Batch
from bifocal.loss.objective import ContrastiveLoss
from bifocal.loss.sigmoid import SigmoidLoss
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.loss.tiled import TiledSigmoidLoss, TiledSoftmaxLoss
from bifocal.optim.gradients import clip_gradients
from bifocal.optim.spread import local, whole
from bifocal.train.batch_norm import RunningStatistics
from bifocal.train.chunks import backward_chunks, embed_chunks
from bifocal.train.prepare import prepare
from bifocal.train.recipe import resolve_run
from bifocal.train.sharding import shard
from bifocal.train.state import Run
from bifocal.train.step import sum_gradients
from bifocal.world import ALONE, World, join_world

PAIRS = 32
"""Eight a process of four, which split into three chunks and into four."""
BOUND = 1e-12
TEXT = {"context_length": 16, "vocab_size": 600, "width": 16, "layers": 2, "heads": 2}
MODELS = {"vit": "linear", "resnet": "linear", "mlp": "mlp"}
"""Kinds of models by their projections; "mlp" has a Vision Transformer."""
VISION = {
    "vit": {"image_size": 32, "patch_size": 8, "width": 16, "layers": 2, "heads": 2},
    "resnet": {"image_size": 32, "width": 4, "layers": [1, 1, 1, 1], "heads": 2},
}


class Exact:
    """Preprocessing in float64."""

    image_size = 32

    def normalize(self, images: torch.Tensor) -> torch.Tensor:
        return images.double() / 128 - 1


def new_run(model: str, world: World) -> Run:
    table = {
        "out": "unused",
        "model": {
            "embed_dim": 8,
            "vision": VISION.get(model, VISION["vit"]),
            "projection": MODELS[model],
            "text": TEXT,
            "init_logit_bias": -3.0,
        },
        "data": {"train": "scenes:train:48", "batch_size": PAIRS, "threads": 0},
        "optim": {"lr": 1e-3},
        "train": {"steps": 1},
    }
    run = prepare(resolve_run(table, "test"), ALONE, print)
    run.world = world
    run.model.to(world.device, torch.float64)
    run.preprocess = Exact()
    return run


def gradients(run: Run, batch: Batch, size: int, loss: ContrastiveLoss, share: bool) -> dict:
    """Return loss, gradients and running statistics of one batch, as a training step has them."""
    model = copy.deepcopy(run.model)
    run = copy.copy(run)
    run.model = model
    sharing = batch.sharing(run.world.device) if share else None
    chunks = batch.to(run.world.device).split(size)
    statistics = RunningStatistics(model)
    features = embed_chunks(run, chunks, statistics)
    value, seeds = loss.value_and_grad(features, run.world, sharing)
    backward_chunks(run, chunks, features, seeds)
    sum_gradients(model, run.world)
    statistics.finish(run.world, keep=True)
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    found |= dict(model.named_buffers())
    return found | {"loss": value}


def spread_gradients(
    world: World,
    model: str,
    batch: Batch,
    size: int,
    loss: ContrastiveLoss,
    checkpointing: bool,
) -> dict:
    """Return the same as `gradients` for a model whose matrices are spread, put together."""
    run = new_run(model, world)
    run.model.set_gradient_checkpointing(checkpointing)
    shard(run.model, world)
    statistics = RunningStatistics(run.model)
    chunks = batch.to(world.device).split(size)
    features = embed_chunks(run, chunks, statistics)
    value, seeds = loss.value_and_grad(features, run.world)
    backward_chunks(run, chunks, features, seeds)
    sum_gradients(run.model, run.world)
    statistics.finish(run.world, keep=True)
    found = {n: whole(local(p.grad), p) for n, p in run.model.named_parameters()}
    norm = clip_gradients(run.model.parameters(), None).norm
    expected = torch.nn.utils.get_total_norm(found.values()).item()
    assert abs(norm - expected) <= 1e-6 * expected
    return found | dict(run.model.named_buffers()) | {"loss": value}


def check_spread(world: World) -> int:
    """Compare models whose matrices are spread over the processes, for both kinds of tower."""
    cases = 0
    local_size = PAIRS // world.size
    softmax, sigmoid = (SoftmaxLoss(), TiledSoftmaxLoss(5)), (SigmoidLoss(), TiledSigmoidLoss(7))
    for model, size, (oracle, loss) in (
        ("vit", 2, softmax),
        ("vit", local_size, sigmoid),
        ("resnet", 4, softmax),
        ("resnet", local_size, (SoftmaxLoss(), SoftmaxLoss())),
        ("mlp", 2, sigmoid),
    ):
        plain = new_run(model, ALONE)
        batch = whole_batch(plain)
        mine = batch.split(local_size)[world.rank]
        expected = gradients(plain, batch, size, oracle, False)
        for checkpointing in (False, True):
            found = spread_gradients(world, model, mine, size, loss, checkpointing)
            compare(expected, found, (world, "spread", model, size, loss, checkpointing))
            cases += 1
    return cases


def whole_batch(run: Run) -> Batch:
    batch = next(iter(run.loader()))
    # Some pairs share a picture, some a caption.
    batch.tokens[5] = batch.tokens[1]
    batch.tokens[26] = batch.tokens[1]
    batch.lengths.copy_(batch.tokens.argmax(dim=1) + 1)
    keys = ("same", *batch.keys[1:17], "same", *batch.keys[18:])
    return Batch(batch.images, batch.tokens, batch.lengths, keys, batch.positions, batch.cursor)


def compare(expected: dict, found: dict, case: object) -> None:
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        error = (value.cpu() - found[name].cpu()).abs().max().item()
        size = max(1.0, value.abs().max().item())
        assert error <= BOUND * size, f"{case}: {name} is off by {error:.2e}"


def check_vit(world: World) -> int:
    """Compare every split of a batch for a tower without batch statistics."""
    run, plain = new_run("vit", world), new_run("vit", ALONE)
    batch, local = whole_batch(plain), PAIRS // world.size
    mine = batch.split(local)[world.rank]
    cases = 0
    for form, share in itertools.product(("softmax", "sigmoid"), (False, True)):
        oracle, tiled = {
            "softmax": (SoftmaxLoss(), TiledSoftmaxLoss),
            "sigmoid": (SigmoidLoss(), TiledSigmoidLoss),
        }[form]
        expected = gradients(plain, batch, PAIRS, oracle, share)
        assert expected["logit_scale"].abs() > 1e-3, "the temperature must be put to the test"
        losses = (oracle, *(tiled(side) for side in (1, 5, 7, 64)))
        splits = [(chunks, loss, False) for chunks in (1, 3, 4) for loss in losses]
        splits += [(chunks, losses[2], True) for chunks in (1, 4)]
        for chunks, loss, checkpointing in splits:
            run.model.set_gradient_checkpointing(checkpointing)
            size = math.ceil(local / chunks)
            assert len(mine.split(size)) == chunks
            found = gradients(run, mine, size, loss, share)
            compare(expected, found, (world, form, share, chunks, checkpointing, loss))
            cases += 1
    return cases


def check_chunks(world: World, model: str) -> int:
    """Compare splits into the same chunks, on which BatchNorm's statistics depend."""
    run, plain = new_run(model, world), new_run(model, ALONE)
    batch, local = whole_batch(plain), PAIRS // world.size
    mine = batch.split(local)[world.rank]
    for size in (4, local):
        expected = gradients(plain, batch, size, SoftmaxLoss(), False)
        for checkpointing in (False, True):
            run.model.set_gradient_checkpointing(checkpointing)
            found = gradients(run, mine, size, TiledSoftmaxLoss(5), False)
            compare(expected, found, (world, size, checkpointing))
    return 4


def main(device: str = "cpu") -> None:
    """Check every kind of split; a collective call of a world's processes."""
    with join_world(device) as joined:
        compared = check_vit(joined) + check_spread(joined)
        compared += sum(check_chunks(joined, model) for model in ("resnet", "mlp"))
        print(f"compared {compared}")
