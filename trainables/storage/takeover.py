"""Resuming a study: its plan, and the state that an earlier driver left.

Whatever stopped the earlier driver, the result files determine what is done. `resume_state` puts the rest in order: other
processes of the earlier driver lose the right to write, partial files and Ray Tune's own records are removed, and ended trials
lose their checkpoint. Runs in MLflow are put in order by their only writer, `trainables.tracking`, as soon as MLflow can be
reached.
"""

from dataclasses import dataclass

from core.errors import InputError
from trainables.storage.jobs import seed_jobs
from trainables.storage.results import ended_trials, suggestion, trial_numbers
from trainables.storage.store import Store
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.study.trial import Trial

TUNE_FOLDER = "ray"
"""Folder of Ray Tune's own records below a study's folder; they are not read, because a study is resumed from its results."""


@dataclass(frozen=True)
class RecoveredState:
    """The state of a study when a driver takes it over."""

    store: Store
    """The study's folder, with this driver's lease."""
    ended: list[Trial]
    """Trials in a final state."""
    interrupted: list[int]
    """Numbers of trials that were started and have not ended."""
    remaining: int
    """Number of trials that were not started."""
    is_new: bool
    """Whether this is the first driver of the study."""

    def __str__(self) -> str:
        ended, interrupted = len(self.ended), len(self.interrupted)
        total = ended + interrupted + self.remaining
        return f"resumed: {ended} of {total} trials finished, {interrupted} in progress, {self.remaining} to run"


def resume_state(store: Store, plan: Plan) -> RecoveredState:
    """Take the lease of a study's folder, put the folder in order, and read how far the study is.

    Raises:
        OSError: the folder cannot be written.
    """
    store = store.with_new_lease()  # first, so that no earlier driver adds anything to what is read below
    is_new = store.read("plan.json") is None
    if is_new:
        store.write_json("plan.json", plan.to_json())
    store.discard_parts()
    store.discard_folder(TUNE_FOLDER)
    ended = ended_trials(store)
    for trial in ended:
        for job in seed_jobs(trial.number, trial.params, plan.seeds_per_trial):
            store.discard(f"{job.folder}/checkpoint.pt")
    started = {number for number in trial_numbers(store) if suggestion(store, number) is not None}
    interrupted = sorted(started - {trial.number for trial in ended})
    return RecoveredState(store, ended, interrupted, plan.trials - len(ended) - len(interrupted), is_new)


def study_store(site: Site, name: str) -> Store:
    """The folder of a study."""
    return Store.at(site.storage).below(name)


def stored_plan(name: str, site: Site) -> Plan:
    """The plan of a study that was started earlier.

    Raises:
        InputError: there is no study of that name, or its plan cannot be read.
    """
    store = Store.at(site.storage)
    known = [folder for folder in store.names("") if store.read(f"{folder}/plan.json") is not None]
    if name not in known:
        raise InputError(f"no study {name!r} in --storage {site.storage}, expected one of: {', '.join(known) or 'none'}")
    try:
        return Plan.of_json(store.read_json(f"{name}/plan.json"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{store.root}/{name}/plan.json is not a plan of this version ({type(error).__name__}: {error})") from None


def is_finished(store: Store) -> bool:
    """Whether a study has ended; the report is the last file that it writes."""
    return "report.html" in store.names("")
