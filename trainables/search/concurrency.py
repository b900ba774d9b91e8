"""The limit of concurrent trials in a sweep, and its end after an error that affects all trials."""

from collections.abc import Callable

from ray.tune.search import ConcurrencyLimiter, Searcher


class LimitedSearcher(ConcurrencyLimiter):
    """A searcher that suggests trials only while fewer than the limit are running, and none after a fatal error."""

    def __init__(self, searcher: Searcher, limit: Callable[[], int]):
        """`limit` is called before each suggestion, because the cluster may grow or shrink."""
        super().__init__(searcher, limit())
        self.limit, self.fatal_error = limit, ""

    def suggest(self, trial_id: str) -> dict | None:
        """The searcher's next suggestion, or None while the limit is reached.

        Raises:
            OSError: a trial could not use the storage, so further trials would be lost, too.
        """
        if self.fatal_error:
            raise OSError(self.fatal_error)
        self.max_concurrent = self.limit()
        return super().suggest(trial_id)

    def get_state(self) -> dict:
        """Nothing; Ray Tune would write it to files, and the searcher is restored from the store."""
        return {}

    def __reduce__(self):
        return Searcher, ()  # Ray Tune pickles its settings for a restore that is not used here
