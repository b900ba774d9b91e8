"""Resuming a study: its plan, and the state that an earlier driver left.

Whatever stopped the earlier driver, the result files determine what is done. `resume_state` puts the rest in order: other
processes of the earlier driver lose the right to write, partial files and Ray Tune's own records are removed, and ended trials
lose their checkpoint. Runs in MLflow are put in order by their only writer, `trainables.tracking`, as soon as MLflow can be
reached.
"""

from dataclasses import dataclass, field

from core.errors import InputError
from trainables.storage.contents import Damaged
from trainables.storage.jobs import seed_jobs
from trainables.storage.repair import discard_damaged
from trainables.storage.results import ended_trials, suggestion, trial_numbers
from trainables.storage.store import Store
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.study.text import counted
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
    repaired: list[str] = field(default_factory=list)
    """One line for each damaged file, with what is done about it."""

    def __str__(self) -> str:
        ended, interrupted = len(self.ended), len(self.interrupted)
        total = ended + interrupted + self.remaining
        return f"resumed: {ended} of {counted(total, 'trial')} finished, {interrupted} in progress, {self.remaining} to run"


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
    repaired = discard_damaged(store)
    ended = ended_trials(store)
    for trial in ended:
        for job in seed_jobs(trial.number, trial.params, plan.seeds_per_trial):
            store.discard(f"{job.folder}/checkpoint.pt")
    started = {number for number in trial_numbers(store) if suggestion(store, number) is not None}
    interrupted = sorted(started - {trial.number for trial in ended})
    return RecoveredState(store, ended, interrupted, plan.trials - len(ended) - len(interrupted), is_new, repaired)


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
        plan = store.read_record(f"{name}/plan.json", Plan.of_json)
    except Damaged as error:
        raise InputError(f"{store.place_of(f'{name}/plan.json')} is not a plan of this version ({error.reason})") from None
    assert plan, "it was there a moment ago"
    if plan.name != name:  # MLflow and other studies know it by the name in the plan
        raise InputError(
            f"{store.place_of(name)} contains the study {plan.name!r}; a study has the name of its folder, so rename the folder"
        )
    return plan


def is_finished(store: Store) -> bool:
    """Whether a study has ended; the report is the last file that it writes."""
    return "report.html" in store.names("")
