"""What a run left out, counted by place and reason, and when that is too much.

Safe from threads. Knows nothing of samples or batches.
"""

from __future__ import annotations

import threading
from collections import Counter

from bifocal.errors import DataError


class Skips:
    """Counts what was left out or cut, by (shard or source, reason); safe from threads.

    Args:
        limit: largest share of samples that may be bad before the run is stopped.
    """

    MINIMUM = 100

    def __init__(self, limit: float = 0.1) -> None:
        self.limit = limit
        self.counts: Counter[tuple[str, str]] = Counter()
        self.truncated = 0
        self.seen = 0
        self._lock = threading.Lock()

    def saw(self, samples: int, truncated: int) -> None:
        """Count samples prepared, and captions cut to the context among them."""
        with self._lock:
            self.seen += samples
            self.truncated += truncated

    def bad(self, place: str, reason: str) -> None:
        """Count one sample that could not be used.

        Raises:
            DataError: too large a share of the samples is bad.
        """
        with self._lock:
            self.counts[place, reason] += 1
            bad = self.counts.total()
            if bad >= self.MINIMUM and bad > self.limit * (self.seen + bad):
                raise DataError(
                    f"{bad} of {self.seen + bad} samples are bad, more than the share of "
                    f"{self.limit:.0%} that data.max_bad allows:\n{self.describe()}"
                )

    def describe(self) -> str:
        """Return one line a (place, reason), the most frequent first."""
        rows = self.counts.most_common(8)
        return "\n".join(f"  {count}x {reason} in {place}" for (place, reason), count in rows)
