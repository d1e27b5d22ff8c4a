"""The logistic regression against scikit-learn's, and the search for C."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from bifocal.data.scenes import SceneClassSource
from bifocal.errors import DataError
from bifocal.evaluate.frozen import frozen_features
from bifocal.evaluate.lbfgs import Local, minimise
from bifocal.evaluate.logistic import LogisticProblem, loss_and_gradient
from bifocal.evaluate.sweep import STEPS, best_strength, sweep

CLASSES = 12


def steep(examples: int, dim: int, seed: int = 0, margin: float = 0.4) -> tuple[Tensor, Tensor]:
    """Features whose spectrum falls as 1/rank and that share an offset, as a trained tower's."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.arange(1, dim + 1).float() ** -0.5
    axes = torch.linalg.qr(torch.randn(dim, dim, generator=generator))[0]
    labels = torch.arange(examples) % CLASSES
    means = margin * torch.randn(CLASSES, dim, generator=generator) * scale
    features = means[labels] + torch.randn(examples, dim, generator=generator) * scale
    return features @ axes + 2 * torch.randn(dim, generator=generator), labels


def plain(examples: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features that say nothing of the labels."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(examples, dim, generator=generator)
    return features, torch.randint(CLASSES, (examples,), generator=generator)


def objective(features: Tensor, labels: Tensor, weights: Tensor, bias: Tensor, c: float) -> float:
    logits = torch.addmm(bias.double(), features.double(), weights.double().T)
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    return (c * loss + 0.5 * weights.double().square().sum()).item()


def reference(features: Tensor, labels: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """Scikit-learn's weights and intercepts in float64, all the way to the minimum.

    Its own L-BFGS stops short where features are steep and the penalty is weak.
    """
    model = LogisticRegression(C=c, solver="newton-cg", max_iter=500, tol=1e-9)
    with warnings.catch_warnings():
        # Its line search gives up where values are equal to the last digit; that is the minimum.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features.double().numpy(), labels.numpy())
    return torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)


@pytest.mark.parity
@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("draw", [plain, steep])
def test_the_minimum_is_scikit_learns(draw, c):
    features, labels = draw(1600, 24)
    train, test = slice(0, 600), slice(600, None)
    fit = LogisticProblem(features[train], labels[train]).fit(c)
    weights, bias = reference(features[train], labels[train], c)
    least = objective(features[train], labels[train], weights, bias, c)
    mine = objective(features[train], labels[train], fit.weights, fit.bias, c)
    assert fit.converged
    assert fit.objective == pytest.approx(mine, rel=1e-6)
    assert mine == pytest.approx(least, rel=1e-4)
    guesses = torch.addmm(bias, features[test].double(), weights.T).argmax(dim=1)
    right = (guesses == labels[test]).double().mean().item()
    found = (fit.logits(features[test]).argmax(dim=1) == labels[test]).double().mean().item()
    assert found == pytest.approx(right, abs=0.002)


@pytest.mark.parity
@pytest.mark.parametrize("examples", [20, 200], ids=["fewer than features", "more"])
def test_features_of_a_tower_reach_the_minimum(tiny_vit, random_pretrained, examples):
    source = SceneClassSource(200, 0, image_size=16, seen=True)
    seen = frozen_features(random_pretrained(tiny_vit), source)
    features, labels = seen.features[:examples], seen.labels[:examples] % 3
    fit = LogisticProblem(features, labels).fit(10.0)
    weights, bias = reference(features, labels, 10.0)
    least = objective(features, labels, weights, bias, 10.0)
    mine = objective(features, labels, fit.weights, fit.bias, 10.0)
    assert fit.converged
    assert mine == pytest.approx(least, rel=1e-4)


@pytest.mark.property
def test_the_gradient_is_that_of_autograd():
    features, labels = steep(50, 7)
    weights = torch.randn(CLASSES, 7, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(CLASSES, dtype=torch.float64, requires_grad=True)
    logits = torch.addmm(bias, features.double(), weights.T)
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    loss.backward()
    assert weights.grad is not None
    assert bias.grad is not None
    found = loss_and_gradient(features, labels, weights.detach(), bias.detach())
    assert found.loss == pytest.approx(loss.item(), rel=1e-6)
    assert torch.allclose(found.by_weights, weights.grad, atol=1e-4)
    assert torch.allclose(found.by_bias, bias.grad, atol=1e-5)


@pytest.mark.golden
def test_what_is_nearly_right_keeps_its_digits():
    # One example with logits (40, 0): the loss is log(1 + e^-40), of which 1 - p sees nothing.
    found = loss_and_gradient(
        torch.ones(1, 1),
        torch.tensor([0]),
        torch.tensor([[40.0], [0.0]], dtype=torch.float64),
        torch.zeros(2, dtype=torch.float64),
    )
    tiny = pytest.approx(math.exp(-40), rel=1e-4, abs=0)
    assert found.loss == tiny
    assert -found.by_bias[0].item() == tiny


@pytest.mark.property
def test_where_the_search_begins_does_not_decide_where_it_ends():
    features, labels = steep(600, 24)
    problem = LogisticProblem(features, labels)
    cold = problem.fit(1.0)
    warm = problem.fit(1.0, problem.fit(100.0))
    assert warm.converged
    assert warm.objective == pytest.approx(cold.objective, rel=2e-5)
    assert problem.fit(1.0, cold).iterations < cold.iterations
    again = LogisticProblem(features, labels).fit(1.0)
    assert torch.equal(again.weights, cold.weights)


@pytest.mark.golden
def test_a_strong_penalty_is_no_excuse_for_a_rough_answer():
    # As c goes to 0, b goes to the log of the classes' shares and W to c Σ (onehot - shares) xᵀ. At
    # 1e-6 the objective knows no difference, and W and b still decide who is right.
    features, labels = steep(1500, 24)
    # Two classes hold most examples, the rarest has three.
    kept = (torch.rand(1500) * labels**2.5 < 1) | (torch.arange(1500) < 36)
    features, labels = features[kept], labels[kept]
    features = features - features.mean(dim=0)
    fit = LogisticProblem(features, labels).fit(1e-6)
    onehot = torch.nn.functional.one_hot(labels).double()
    shares = onehot.mean(dim=0)
    weights = 1e-6 * (onehot - shares).T @ features.double()
    assert fit.converged
    assert (fit.weights - weights).norm() < 1e-3 * weights.norm()
    excess = fit.bias - shares.log()
    assert (excess - excess.mean()).norm() < 0.1 * weights.norm()


@pytest.mark.property
def test_few_examples_that_a_plane_parts_take_few_steps():
    # Where nearly all is right the curvature is that of few probabilities, not that of the start.
    features, labels = steep(60, 100)
    fit = LogisticProblem(features, labels).fit(1e6)
    assert fit.converged
    assert fit.iterations < 120


@pytest.mark.behaviour
def test_iterations_are_counted_and_limited():
    features, labels = steep(300, 24)
    fit = LogisticProblem(features, labels).fit(100.0, max_iterations=3)
    assert fit.iterations == 3
    assert not fit.converged


@pytest.mark.behaviour
def test_what_cannot_be_fitted_is_said():
    with pytest.raises(DataError, match="4 examples are of 1 class: a classifier needs two"):
        LogisticProblem(torch.randn(4, 2), torch.zeros(4, dtype=torch.long))
    broken = torch.tensor([[1.0], [math.nan]])
    with pytest.raises(DataError, match="not finite"):
        LogisticProblem(broken, torch.tensor([0, 1]))
    # Features that say nothing at all leave the shares of the classes.
    constant = LogisticProblem(torch.ones(4, 2), torch.tensor([0, 0, 0, 1])).fit(1.0)
    shares = constant.logits(torch.ones(1, 2)).softmax(dim=1)
    assert shares[0].tolist() == pytest.approx([0.75, 0.25], abs=1e-3)


@pytest.mark.property
@pytest.mark.parametrize(
    ("decades", "known", "most"),
    [(2, False, 80), (6, True, 8)],
    ids=["curvature unknown", "curvature known"],
)
def test_a_quadratic_is_minimised(decades, known, most):
    half = decades / 2
    scales = torch.logspace(-half, half, 20, dtype=torch.float64)
    target = torch.linspace(-1, 1, 20, dtype=torch.float64)
    curvature = scales if known else torch.ones(1, dtype=torch.float64)

    def evaluate(point: Tensor) -> Local:
        gap = point - target
        value = 1 + 0.5 * (scales * gap.square()).sum().item()
        return Local(value, scales * gap, curvature, value)

    start = torch.zeros(20, dtype=torch.float64)
    found = minimise(evaluate, start, max_iterations=1000, tolerance=1e-10)
    assert found.converged
    assert found.value == pytest.approx(1.0, abs=1e-9)
    assert found.iterations <= most


@pytest.mark.golden
def test_the_search_for_c_halves_the_interval_around_the_peak():
    tried: list[int] = []

    def score(c: float) -> float:
        step = round(8 * (math.log10(c) + 6))
        assert c == pytest.approx(10 ** (step / 8 - 6))
        tried.append(step)
        return -float(abs(step - 43))

    found = sweep(score)
    # By 8, 4, 2 and 1 eighths of a decade, always beside the best so far; of 42 and 44, which
    # are as good, beside the stronger penalty.
    assert tried == [0, 16, 32, 48, 64, 80, 96, 40, 56, 36, 44, 42, 46, 41, 43]
    assert STEPS == 96
    assert list(found) == sorted(found)
    assert best_strength(found) == pytest.approx(10 ** (43 / 8 - 6))


@pytest.mark.golden
def test_of_equal_scores_the_stronger_penalty_wins_and_the_ends_hold():
    level = sweep(lambda c: 0.5)
    assert best_strength(level) == pytest.approx(1e-6)
    assert min(level) == pytest.approx(1e-6)
    rising = sweep(lambda c: c)
    assert best_strength(rising) == pytest.approx(1e6)
    assert len(rising) == 7 + 4
