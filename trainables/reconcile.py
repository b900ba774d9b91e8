"""What an earlier driver of a study left behind, looked through once, before the next one begins.

Whatever stopped it, the result files say what is done. The rest is put in order here: other processes of that driver may not
write any more, half-written files and Tune's own records are removed, and a trial that ended needs no checkpoint. MLflow is
put in order by its one writer (`Tracker`), as soon as it can be reached.
"""

from dataclasses import dataclass

from trainables.outcome import Trial
from trainables.plan import Plan
from trainables.results import ended_trials
from trainables.store import Store
from trainables.trial import seed_jobs

TUNE = "ray"
"""The folder of Ray's own records in a study's; nobody reads them, since a study is resumed from its results."""


@dataclass(frozen=True)
class Found:
    """A study as its next driver finds it."""

    store: Store
    """Which only this driver may write."""
    ended: list[Trial]
    going_on: list[int]
    """Trials that were begun and have not ended."""
    to_come: int
    anew: bool
    """Whether this is the first driver."""

    def __str__(self) -> str:
        ended, going_on = len(self.ended), len(self.going_on)
        return f"resumed: {ended} of {ended + going_on + self.to_come} trials ended, {going_on} go on, {self.to_come} to come"


def take_over(store: Store, plan: Plan) -> Found:
    """Claim a study's folder, put it in order and say how far the study is.

    Raises:
        OSError: it cannot be written.
    """
    store = store.claimed()  # before anything is read: nothing is added behind our back after that
    anew = store.read("plan.json") is None
    if anew:
        store.write_json("plan.json", plan.to_json())
    store.discard_parts()
    store.discard_folder(TUNE)
    ended = ended_trials(store)
    for trial in ended:
        for job in seed_jobs(trial.number, trial.params, plan.seeds):
            store.discard(f"{job.folder}/checkpoint.pt")
    begun = {int(name) for name in store.names("trials") if store.read(f"trials/{name}/params.json") is not None}
    going_on = sorted(begun - {trial.number for trial in ended})
    return Found(store, ended, going_on, plan.trials - len(ended) - len(going_on), anew)
