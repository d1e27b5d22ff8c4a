"""One step and a short run: what is learned, what is clamped, what is refused."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bifocal.data.batch import Batch
from bifocal.errors import ConfigError, TrainingError
from bifocal.inputs.tokenizer import Tokenizer
from bifocal.loss.softmax import SoftmaxLoss
from bifocal.optim.kernel import Kernel
from bifocal.optim.library import find_compiler
from bifocal.train import checkpoint, loop
from bifocal.train.prepare import prepare
from bifocal.train.rejected import REJECTED, RejectedLog
from bifocal.train.state import Run, new_run, steps_of
from bifocal.train.step import train_step
from bifocal.world import World


def state(run: Run) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.model.state_dict().items()}


def any_pairs(run: Run, count: int) -> Batch:
    """Patterns of four by four patches beside ids, all different: nothing to know but by heart."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.randint(0, 256, (count, 3, 4, 4), dtype=torch.uint8, generator=generator)
    ids = torch.randint(0, 400, (count, 4), generator=generator)
    ends = torch.tensor([run.tokenizer.start, run.tokenizer.end]).expand(count, 2)
    return Batch(
        images=patches.repeat_interleave(8, 2).repeat_interleave(8, 3),
        tokens=torch.cat([ends[:, :1], ids, ends[:, 1:]], dim=1),
        lengths=torch.full((count,), 6),
        keys=tuple(map(str, range(count))),
        positions=torch.arange(count),
        cursor=run.cursor,
    )


@pytest.mark.behaviour
@pytest.mark.usefixtures("unchecked_shapes")
def test_sixty_four_pairs_are_learned_by_heart(configure):
    config = configure(
        "data.train=scenes:train:64",
        "data.batch_size=64",
        "model.vision.width=64",
        "model.text.width=64",
        "model.text.layers=2",
        "optim.warmup_steps=5",
        "optim.weight_decay=0",
        "train.steps=150",
    )
    run = prepare(config, World(), print)
    batch = any_pairs(run, 64)
    losses = [train_step(run, batch, SoftmaxLoss()).loss for _ in range(150)]
    assert losses[0] == pytest.approx(math.log(64), rel=0.2)
    assert losses[-1] < 0.1, losses[::10]
    with torch.no_grad():
        per_image, per_text = run.model.eval()(run.preprocess.normalize(batch.images), batch.tokens)
    for logits in (per_image, per_text):
        assert torch.equal(logits.argmax(dim=1), torch.arange(64))


@pytest.mark.behaviour
@pytest.mark.parametrize("model", ["vit", "resnet"])
def test_bfloat16_trains_close_to_float32(configure, model):
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = configure(f"train.precision={precision}", "train.steps=12", model=model)
        run = prepare(config, World(), print)
        batches = iter(run.loader())
        losses[precision] = [train_step(run, next(batches), SoftmaxLoss()).loss for _ in range(12)]
        batches.close()
        assert all(p.dtype == torch.float32 for p in run.model.parameters())
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.05)


@pytest.mark.behaviour
def test_the_temperature_stays_at_or_below_a_hundred(configure):
    run = prepare(configure(), World(), print)
    with torch.no_grad():
        run.model.logit_scale.fill_(math.log(100.0))
    run.schedule = type(run.schedule)(peak=1.0, warmup=0, total=8)
    batches = iter(run.loader())
    # A batch whose pairs match perfectly asks for a larger scale.
    metrics = train_step(run, next(batches), _Larger())
    batches.close()
    assert metrics.logit_scale == pytest.approx(100.0)
    assert run.model.logit_scale.item() == pytest.approx(math.log(100.0))


class _Larger(SoftmaxLoss):
    """A loss that wants nothing but a larger scale."""

    def value(self, features, sharing=None):
        anchor = features.image.sum() + features.text.sum()
        return 0 * anchor - features.logit_scale


class _Broken(SoftmaxLoss):
    """A loss that is infinite once."""

    def value(self, features, sharing=None):
        return super().value(features, sharing) * torch.tensor(math.inf)


@pytest.mark.behaviour
@pytest.mark.parametrize("model", ["vit", "resnet"])
def test_a_loss_that_is_not_finite_leaves_the_model(configure, model):
    run = prepare(configure(model=model), World(), print)
    batches = iter(run.loader())
    train_step(run, next(batches), SoftmaxLoss())
    before, moments = state(run), copy.deepcopy(run.optimizer.state_dict())
    metrics = train_step(run, next(batches), _Broken())
    assert not metrics.applied
    assert metrics.keys[0].startswith("train-0")
    after = state(run)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert str(moments["state"]) == str(run.optimizer.state_dict()["state"])
    assert (run.step, run.cursor.position, run.rejected) == (2, 32, 1)
    assert train_step(run, next(batches), SoftmaxLoss()).applied
    assert run.rejected == 0
    batches.close()


@pytest.mark.behaviour
def test_steps_that_are_not_finite_are_written_out_and_counted(configure, tmp_path):
    run = prepare(configure("train.max_rejected=3"), World(), print)
    hooks = [RejectedLog(tmp_path, run)]
    with pytest.raises(TrainingError, match=r"last 3 steps up to 3 .*rejected\.jsonl.*optim\.lr"):
        loop.train(run, tmp_path, _Broken(), hooks, lambda run, last: {})
    rows = [json.loads(line) for line in (tmp_path / REJECTED).read_text("utf-8").splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[0]["loss"] in ("inf", "nan")
    assert len(rows[0]["keys"]) == 16
    statistics = rows[0]["parameters"]
    assert statistics.keys() == dict(run.model.named_parameters()).keys()
    assert max(one["not_finite"] for one in statistics.values()) > 0


@pytest.mark.property
def test_a_step_is_autograd_over_the_whole_graph(configure):
    # The loss hands gradients of features on; together they are those of the loss itself.
    config = configure("optim.weight_decay=0", "train.steps=1", "optim.warmup_steps=0")
    run, plain = (prepare(config, World(), print) for _ in range(2))
    batches = iter(run.loader())
    batch = next(batches)
    batches.close()
    images = plain.preprocess.normalize(batch.images)
    SoftmaxLoss().value(plain.model.features(images, batch.tokens)).backward()
    expected = {name: p.grad.clone() for name, p in plain.model.named_parameters()}
    gradients = {}
    step = run.optimizer.step

    def spy(**known: object) -> None:
        gradients.update({n: p.grad.clone() for n, p in run.model.named_parameters()})
        step(**known)

    run.optimizer.step = spy
    metrics = train_step(run, batch, SoftmaxLoss())
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-7)
    norm = torch.stack([gradient.norm() for gradient in expected.values()]).norm().item()
    assert metrics.grad_norm == pytest.approx(norm, rel=1e-4)


@pytest.mark.behaviour
def test_gradients_are_clipped_to_the_norm(configure):
    config = configure("optim.max_grad_norm=0.01")
    run = prepare(config, World(), print)
    batches = iter(run.loader())
    step, norms = run.optimizer.step, []

    def spy(**known: object) -> None:
        gradients = [p.grad.norm() for p in run.model.parameters()]
        norms.append(torch.stack(gradients).norm().item())
        step(**known)

    run.optimizer.step = spy
    metrics = train_step(run, next(batches), SoftmaxLoss())
    batches.close()
    assert metrics.grad_norm > 0.02, "the norm before clipping is what is reported"
    assert norms == [pytest.approx(0.01, rel=1e-3)]


@pytest.mark.behaviour
@pytest.mark.skipif(not find_compiler(), reason="there is no C compiler")
def test_what_the_norm_finds_on_the_way_is_not_looked_for_again(configure, monkeypatch):
    run = prepare(configure("optim.statistics=float16"), World(), print)
    run.optimizer.compile()
    monkeypatch.setattr(Kernel, "peaks", None)
    batches = iter(run.loader())
    assert train_step(run, next(batches), SoftmaxLoss()).applied
    batches.close()


@pytest.mark.behaviour
def test_chunks_that_leave_one_picture_alone_are_refused(configure):
    for options in (("train.chunk_size=1",), ("data.batch_size=5", "train.chunk_size=2")):
        with pytest.raises(ConfigError, match="leave one alone, and BatchNorm nothing"):
            prepare(configure(*options, model="resnet"), World(), print)
        prepare(configure(*options, model="vit"), World(), print)
    prepare(configure("data.batch_size=5", "train.chunk_size=3", model="resnet"), World(), print)


@pytest.mark.behaviour
def test_checkpoints_wait_for_a_step_that_is_applied(configure, monkeypatch):
    config = configure("train.checkpoint_every=1", "train.max_rejected=3")
    run, saved = prepare(config, World(), print), []
    monkeypatch.setattr(checkpoint, "save", lambda run, out: saved.append(run.step))

    class Poisoned(SoftmaxLoss):
        def value(self, features, sharing=None):
            return super().value(features, sharing) * (math.inf if run.step >= 2 else 1.0)

    with pytest.raises(TrainingError, match=r"another out="):
        loop.train(run, Path(config.out), Poisoned(), [], lambda run, last: {})
    assert saved == [1, 2]


@pytest.mark.behaviour
def test_a_run_of_which_no_step_was_applied_is_no_success(configure):
    class Infinite(SoftmaxLoss):
        def value(self, features, sharing=None):
            return super().value(features, sharing) * math.inf

    config = configure("train.steps=3")
    run = prepare(config, World(), print)
    with pytest.raises(TrainingError, match="none of the 3 steps had a finite loss"):
        loop.train(run, Path(config.out), Infinite(), [], lambda run, last: {})


@pytest.mark.behaviour
def test_pictures_of_one_name_in_several_shards_are_not_shared(configure):
    run = prepare(configure(), World(), print)
    batch = next(iter(run.loader()))
    assert len(set(batch.samples)) == 16
    same = replace(batch, keys=("0000",) * 16)
    image = same.sharing(torch.device("cpu")).image
    assert len(image.unique()) == 16
    part = same.split(5)[1]
    assert part.samples == batch.samples[5:10] or part.samples == batch.samples[4:8]


@pytest.mark.behaviour
def test_the_rate_of_each_step_is_the_schedules(configure):
    run = prepare(configure("optim.warmup_steps=3"), World(), print)
    batches = iter(run.loader())
    for step in range(5):
        batch = next(batches)
        metrics = train_step(run, batch, SoftmaxLoss())
        assert metrics.step == run.step == step + 1
        assert metrics.lr == run.schedule(step)
        assert {group["lr"] for group in run.optimizer.param_groups} == {metrics.lr}
        assert (metrics.pairs, metrics.tokens) == (16, int(batch.tokens.count_nonzero()))
    batches.close()
    assert run.schedule(0) < run.schedule(1) < run.schedule(2) == 1e-3 > run.schedule(4)


@pytest.mark.golden
def test_the_length_of_a_run_follows_epochs_or_steps(configure):
    assert steps_of(configure("train.steps=7"), 48) == 7
    for epochs, steps in ((1, 3), (2.5, 8), (0.01, 1)):
        # 48 pairs in batches of 16 are 3 steps an epoch.
        config = configure()
        train = config.train.model_copy(update={"steps": None, "epochs": epochs})
        assert steps_of(config.model_copy(update={"train": train}), 48) == steps


@pytest.mark.behaviour
def test_a_batch_larger_than_the_data_is_refused(configure):
    run = prepare(configure("data.batch_size=49"), World(), print)
    with pytest.raises(ConfigError, match="batch of 49 pairs from data of 48"):
        run.loader()


@pytest.mark.behaviour
def test_a_vocabulary_of_another_size_is_refused(configure, tmp_path):
    run = prepare(configure(), World(), print)
    with pytest.raises(ConfigError, match=r"vocabulary has 514 ids, .*vocab_size=514"):
        new_run(run.config, run.source, Tokenizer([], 16), World())
    # A vocabulary from a file is taken as it is, its size with it.
    run.tokenizer.save(tmp_path / "tokenizer.json")
    path = f"tokenizer.path={tmp_path / 'tokenizer.json'}"
    config = configure(path, "model.text.vocab_size=9000")
    other = prepare(config, World(), print)
    assert other.tokenizer.merges == run.tokenizer.merges
    assert other.model.vocab_size == run.tokenizer.vocab_size


@pytest.mark.behaviour
def test_kernels_of_convolutions_stay_channels_last(configure, train):
    def strided(run: Run) -> bool:
        kernels = [p for p in run.model.visual.parameters() if p.ndim == 4]
        held = [*kernels, *(run.optimizer.state[kernel]["exp_avg"] for kernel in kernels)]
        assert len(held) > 20
        wide = [one for one in held if one.shape[1] > 1 and one.shape[2] > 1]
        return all(one.is_contiguous(memory_format=torch.channels_last) for one in held) and not (
            any(one.is_contiguous() for one in wide)
        )

    config = configure(model="resnet")
    assert strided(train(config))
    again = prepare(config, World(), print)
    assert again.step == again.total_steps
    assert strided(again)
    assert strided(train(configure(f"init={config.out}", model="resnet", out="next")))


@pytest.mark.behaviour
def test_a_warm_up_that_is_longer_than_the_run_is_spoken_of(configure):
    said: list[str] = []
    for warmup, told in ((8, 0), (9, 1), (2000, 1)):
        said.clear()
        prepare(configure(f"optim.warmup_steps={warmup}"), World(), said.append)
        assert len(said) == told
    assert said == [
        "the run ends at step 8, inside its warm-up of 2,000 steps, at a rate of 4e-06 of 0.001: "
        "set optim.warmup_steps"
    ]
