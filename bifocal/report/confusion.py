"""Which classes are taken for which.

Knows: how a matrix of counts becomes shares, an order and a table. Must not know: classifiers.
"""

from collections.abc import Sequence

import numpy as np

from bifocal.report.markup import Html
from bifocal.report.matrix import NAMED, HeatMap, heat_map
from bifocal.report.tables import Column, Table


def confusion_matrix(counts: np.ndarray, names: Sequence[str], title: str = "Confusion") -> Html:
    """Return how often each class (row) is taken for each other (column), as a figure.

    More than 20 classes are left unnamed and reordered so that classes taken for each other stand
    together.

    Args:
        counts: "classes classes", rows the truth, columns the prediction.
        names: One a class.
        title: Of the figure.
    """
    counts = np.asarray(counts, dtype=np.float64)
    names = list(names)
    assert counts.shape == (len(names), len(names)), f"{counts.shape} for {len(names)} classes"
    note = "rows: truth, columns: prediction, each row sums to 100 %"
    if len(names) > NAMED:
        order = _similar_together(counts)
        counts, names = counts[np.ix_(order, order)], [names[i] for i in order]
        note += "; classes that are confused stand together"
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    return heat_map(
        HeatMap(title, shares, "truth", "prediction", names, names, scale="share", note=note)
    )


def class_accuracy(counts: np.ndarray, names: Sequence[str]) -> Table:
    """Return accuracy per class, worst first, from a confusion matrix (rows the truth)."""
    counts = np.asarray(counts, dtype=np.float64)
    rows = []
    for i, name in enumerate(names):
        seen = counts[i].sum()
        mistaken = np.where(np.arange(len(names)) == i, -1, counts[i])
        most = int(mistaken.argmax()) if mistaken.size and mistaken.max() > 0 else None
        rows.append(
            {
                "class": name,
                "images": int(seen),
                "accuracy": float(counts[i, i] / seen) if seen else None,
                "most often taken for": names[most] if most is not None else None,
            }
        )
    rows.sort(key=lambda row: (row["accuracy"] is None, row["accuracy"], row["class"]))
    columns = ["class", "images", Column("accuracy", align="right", bar=True)]
    return Table(rows, [*columns, "most often taken for"], "Accuracy per class, worst first")


def _similar_together(counts: np.ndarray) -> np.ndarray:
    """Order classes along the Fiedler vector of the graph whose edges are confusions."""
    joined = counts + counts.T
    np.fill_diagonal(joined, 0.0)
    # A faint edge between all keeps the graph connected; the vector is otherwise arbitrary.
    joined = joined + 1e-3 * max(joined.max(), 1.0) / len(joined)
    laplacian = np.diag(joined.sum(axis=1)) - joined
    return np.argsort(np.linalg.eigh(laplacian)[1][:, 1], kind="stable")
