"""How many trials run at a time, and when no more are begun."""

from collections.abc import Callable

from ray.tune.search import ConcurrencyLimiter, Searcher


class Pace(ConcurrencyLimiter):
    """As many trials at a time as there is room for at that moment; none once something has gone wrong for all of them."""

    def __init__(self, searcher: Searcher, room: Callable[[], int]):
        """`room` is asked before each trial."""
        super().__init__(searcher, room())
        self.room, self.halted = room, ""

    def suggest(self, trial_id: str) -> dict | None:
        """The searcher's next suggestion, or None while there is no room.

        Raises:
            OSError: a trial could not use the storage; beginning others would lose them, too.
        """
        if self.halted:
            raise OSError(self.halted)
        self.max_concurrent = self.room()
        return super().suggest(trial_id)

    def __reduce__(self):
        return Searcher, ()  # Tune pickles its settings for a restore that is not used here
