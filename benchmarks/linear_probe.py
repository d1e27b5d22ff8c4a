"""Seconds of a linear probe's fit: bifocal beside scikit-learn on the same features.

    python -m benchmarks.linear_probe [--examples 20000] [--dim 512] [--classes 100]
                                      [--strengths 0.01 1 100] [--tolerances 1e-4]

Features are drawn with a spectrum that falls as 1/rank and with a common offset, as those of CLIP
do, and are not normalised. Both minimise the same objective from zero; the objective and the
accuracy on 2,000 held-out examples stand beside the seconds, since scikit-learn's default tolerance
stops it early where the penalty is weak. A last column gives scikit-learn's objective over
bifocal's, less one. bifocal's seconds include the preparation of the features, which a sweep over C
does once.
"""

from __future__ import annotations

import argparse
import time
import warnings

import torch
from jaxtyping import Float, Int
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from bifocal.evaluate.logistic import LogisticProblem

HELD_OUT = 2000


def drawn(
    examples: int, dim: int, classes: int, seed: int = 0
) -> tuple[Float[Tensor, "examples dim"], Int[Tensor, " examples"]]:
    """Return features of clusters with the spectrum of a trained tower's, and their classes."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    scale = torch.arange(1, dim + 1).float() ** -0.5
    axes = torch.linalg.qr(normal(dim, dim))[0]
    labels = torch.randint(classes, (examples,), generator=generator)
    means = 0.25 * normal(classes, dim) * scale
    features = (means[labels] + normal(examples, dim) * scale) @ axes
    return features + 6 * scale.mean() * normal(dim), labels


def cross_entropy(
    features: Tensor, labels: Tensor, weights: Tensor, bias: Tensor
) -> Float[Tensor, ""]:
    """Return the sum of the cross-entropies, in float64."""
    logits = torch.addmm(bias.double(), features.double(), weights.double().T)
    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")


def report(name: str, seconds: float, iterations: int, objective: float, right: float) -> str:
    return f"{name:24} {seconds:8.2f} s {iterations:5} its  {objective:.8e}  {right:7.2%}"


def compare(c: float, tolerances: list[float], options: argparse.Namespace) -> None:
    features, labels = drawn(options.examples + HELD_OUT, options.dim, options.classes)
    test, test_labels = features[:HELD_OUT], labels[:HELD_OUT]
    features, labels = features[HELD_OUT:].contiguous(), labels[HELD_OUT:]

    def judged(weights: Tensor, bias: Tensor) -> tuple[float, float]:
        loss = cross_entropy(features, labels, weights, bias)
        objective = c * loss + 0.5 * weights.double().square().sum()
        guesses = torch.addmm(bias, test.to(bias.dtype), weights.T).argmax(dim=1)
        return objective.item(), (guesses == test_labels).float().mean().item()

    start = time.perf_counter()
    fit = LogisticProblem(features, labels).fit(c)
    seconds = time.perf_counter() - start
    objective, right = judged(fit.weights, fit.bias)
    print(report(f"C={c:g} bifocal", seconds, fit.iterations, objective, right))
    for tolerance in tolerances:
        start = time.perf_counter()
        model = LogisticRegression(C=c, max_iter=1000, tol=tolerance)
        model.fit(features.numpy(), labels.numpy())
        taken = time.perf_counter() - start
        theirs, right = judged(torch.as_tensor(model.coef_), torch.as_tensor(model.intercept_))
        name = f"  scikit-learn tol {tolerance:g}"
        row = report(name, taken, int(model.n_iter_[0]), theirs, right)
        print(f"{row}  {theirs / objective - 1:+.1e}  {taken / seconds:.1f}x")


def main() -> None:
    """Measure every strength in turn."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.01, 1.0, 100.0])
    parser.add_argument("--tolerances", type=float, nargs="+", default=[1e-4])
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(
        f"{options.examples:,} examples of {options.dim} features, {options.classes} classes, "
        f"{torch.get_num_threads()} threads"
    )
    for c in options.strengths:
        compare(c, options.tolerances, options)


if __name__ == "__main__":
    main()
