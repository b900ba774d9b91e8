"""Time per phase of a trial."""

import contextlib
import time
from collections.abc import Callable, Iterator


class PhaseTimer:
    """Measures the seconds spent in each named phase, by default on the wall clock."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Measure the code inside as one phase."""
        start = self.clock()
        yield
        self.seconds[phase] = self.clock() - start

    def metrics(self, **images: int) -> dict[str, float]:
        """`seconds/<phase>`, and `images_per_second/<phase>` for phases whose number of images is given."""
        values = {f"seconds/{phase}": seconds for phase, seconds in self.seconds.items()}
        rates = {f"images_per_second/{p}": n / self.seconds[p] for p, n in images.items() if p in self.seconds}
        return values | rates
