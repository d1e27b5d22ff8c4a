"""Multinomial logistic regression with an L2 penalty on frozen features, by L-BFGS.

The objective is scikit-learn's `LogisticRegression(C=c)`, which the paper's linear probes used
(appendix A.3):

    c · Σᵢ -log softmax(W xᵢ + b)[yᵢ]  +  ½ ‖W‖²            (b is not penalised)

Features are centred (the free intercept takes it up) and turned onto their principal axes (the
penalty does not see a rotation). There the Hessian is about diagonal: 1 + c · the sum of squares
along an axis · the mean of p (1 - p). L-BFGS starts from this diagonal at every step, which changes
no optimum and takes several times fewer passes over the data than raw features, whose spectrum is
steep. Knows matrices; knows nothing of models or sources.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from bifocal.errors import DataError
from bifocal.evaluate.lbfgs import Local, minimise

MAX_ITERATIONS = 1000
TOLERANCE = 1e-6
"""Foreseen progress at which a fit has converged; the objective is then right to about 1e-5."""
LEAST = 1e-12
"""Mean probability on wrong classes, below which curvature is not believed."""
TILE = 4096
"""Examples whose logits are held at a time."""


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """A linear classifier, and how the search for it ended."""

    weights: Float64[Tensor, "classes dim"]
    bias: Float64[Tensor, " classes"]
    c: float
    objective: float
    iterations: int
    converged: bool

    def logits(self, features: Float[Tensor, "examples dim"]) -> Float[Tensor, "examples classes"]:
        """Return W x + b, float32."""
        return torch.addmm(self.bias.float(), features.float(), self.weights.float().T)


class LogisticProblem:
    """Features and labels, made ready once for fits at any strength of the penalty.

    Args:
        features: one row an example; the device of the matrix is where fits are computed.
        labels: 0 to classes - 1, each at least once.

    Raises:
        DataError: there are fewer than two classes, or a feature is no finite number.
    """

    def __init__(
        self, features: Float[Tensor, "examples dim"], labels: Int[Tensor, " examples"]
    ) -> None:
        present = labels.unique()
        self.classes = len(present)
        if self.classes < 2:
            raise DataError(
                f"the {len(labels)} examples are of {self.classes} class: a classifier needs two "
                "classes at least"
            )
        assert int(present[-1]) == self.classes - 1, "labels are numbered without gaps"
        if not bool(features.sum(dtype=torch.float64).isfinite()):
            raise DataError("some features are not finite numbers: the model has diverged")
        self.labels = labels
        counts = torch.bincount(labels).double()
        self._null_loss = (counts * (len(labels) / counts).log()).sum().item()
        self._mean = features.mean(dim=0, dtype=torch.float64)
        centred = features.float() - self._mean.float()
        self._axes, self._variance = _principal_axes(centred)
        self._rotated = centred @ self._axes

    def fit(
        self,
        c: float,
        start: LogisticFit | None = None,
        *,
        max_iterations: int = MAX_ITERATIONS,
        tolerance: float = TOLERANCE,
    ) -> LogisticFit:
        """Return the minimiser of the objective.

        Args:
            c: weight of the data against the penalty, above 0; scikit-learn's C.
            start: where to begin; zero if None.
            max_iterations: L-BFGS steps at most.
            tolerance: progress still foreseen that is small enough, as a share of the objective
                or of what W has won so far, whichever is less: where c is tiny the objective
                hardly depends on W, and yet W alone decides who is right.
        """
        found = minimise(
            lambda point: self._evaluate(point, c),
            self._point(start),
            max_iterations=max_iterations,
            tolerance=tolerance,
        )
        weights = found.point[:, :-1] @ self._axes.double().T
        bias = found.point[:, -1] - weights @ self._mean
        return LogisticFit(weights, bias, c, found.value, found.iterations, found.converged)

    def _point(self, start: LogisticFit | None) -> Float64[Tensor, "classes axes_and_bias"]:
        axes = self._axes.double()
        if start is None:
            return axes.new_zeros(self.classes, axes.shape[1] + 1)
        bias = start.bias + start.weights @ self._mean
        return torch.cat([start.weights @ axes, bias[:, None]], dim=1)

    def _evaluate(self, point: Float64[Tensor, "classes axes_and_bias"], c: float) -> Local:
        weights, bias = point[:, :-1], point[:, -1]
        found = loss_and_gradient(self._rotated, self.labels, weights, bias)
        gradient = torch.cat([c * found.by_weights + weights, c * found.by_bias[:, None]], dim=1)
        penalty = 0.5 * weights.square().sum().item()
        value = c * found.loss + penalty
        # Per class, the mean of p (1 - p) is about the share of probability on wrong classes.
        steepness = c * max(found.wrong / len(self.labels), LEAST) / self.classes
        examples = self._variance.new_tensor([len(self.labels)])
        curvature = steepness * torch.cat([self._variance, examples])
        curvature[:-1] += 1
        won = max(c * self._null_loss - value, penalty)
        return Local(value, gradient, curvature, min(value, won))


@dataclass(frozen=True, slots=True)
class Loss:
    """The sum of cross-entropies, its gradients, and the sum of probability on wrong classes."""

    loss: float
    by_weights: Float64[Tensor, "classes dim"]
    by_bias: Float64[Tensor, " classes"]
    wrong: float


def loss_and_gradient(
    features: Float32[Tensor, "examples dim"],
    labels: Int[Tensor, " examples"],
    weights: Float64[Tensor, "classes dim"],
    bias: Float64[Tensor, " classes"],
) -> Loss:
    """Return the sum of cross-entropies and its gradients: float32 products, float64 sums.

    What is small is never a difference of large numbers: an example that is nearly right has the
    residual -Σ p of the *other* classes, and the loss -log(1 - that sum).
    """
    w, b = weights.float(), bias.float()
    totals = torch.zeros(2, dtype=torch.float64, device=features.device)
    by_weights, by_bias = torch.zeros_like(weights), torch.zeros_like(bias)
    for x, y in zip(features.split(TILE), labels.split(TILE), strict=True):
        own = y[:, None]
        log_p = torch.addmm(b, x, w.T).log_softmax(dim=1)
        log_own = log_p.gather(1, own)
        residual = log_p.exp_().scatter_(1, own, 0.0)
        others = residual.sum(dim=1, keepdim=True)
        loss = torch.where(others < 0.5, -torch.log1p(-others.clamp(max=0.5)), -log_own)
        totals += torch.cat([loss, others], dim=1).sum(dim=0, dtype=torch.float64)
        residual.scatter_(1, own, -others)
        by_weights += residual.T @ x
        by_bias += residual.sum(dim=0, dtype=torch.float64)
    total, wrong = totals.tolist()
    return Loss(total, by_weights, by_bias, wrong)


def _principal_axes(
    centred: Float32[Tensor, "examples dim"],
) -> tuple[Float32[Tensor, "dim axes"], Float64[Tensor, " axes"]]:
    """Return orthonormal axes and the sum of squares along each."""
    examples, dim = centred.shape
    if examples < dim:
        _, singular, axes = torch.linalg.svd(centred.double(), full_matrices=False)
        return axes.T.float(), singular.square()
    gram = torch.zeros(dim, dim, dtype=torch.float64, device=centred.device)
    for tile in centred.split(TILE):
        gram += tile.T @ tile
    variance, axes = torch.linalg.eigh(gram)
    return axes.float(), variance.clamp(min=0)
