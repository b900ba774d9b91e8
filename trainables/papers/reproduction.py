"""Training the networks of a table or figure, and measuring what it shows; what is stored already is not repeated."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from core.bound import TARGET
from trainables.execution.audits import audit_all, audit_targets, shadows_of
from trainables.execution.keyed import train_keyed
from trainables.execution.shadows import ExpectedModels
from trainables.execution.tasks import Executor
from trainables.papers.item import Item, Preset, Values
from trainables.papers.measuring import MeasurementJob, measure, stored_measurement
from trainables.papers.networks import Cell, Networks, job_of
from trainables.storage.jobs import Job
from trainables.study.results import MeasurementResult, NetworkResult, TrainingResult
from trainables.study.text import counted


@dataclass(frozen=True)
class Reproduction:
    """Measured values of the networks of an item, and the failures."""

    values: dict[Cell, Values]
    """Metrics, training curves and measurements of each network that has them all."""
    errors: dict[Cell, str]
    """Why the others have none, in one line."""
    seconds: float
    """Device seconds of all trainings, audits and measurements, also of those that ran before."""

    def results(self, labels: list[str]) -> dict[str, list[Values]]:
        """Values by row, in this order; rows without any are left out."""
        rows = {label: [own for cell, own in self.values.items() if cell.row == label] for label in labels}
        return {label: own for label, own in rows.items() if own}


def reproduce(item: Item, preset: Preset, networks: Networks, executor: Executor) -> Reproduction:
    """Train the networks of an item and measure what it shows.

    Args:
        item: the item.
        preset: its effort.
        networks: its networks.
        executor: executor whose folder is the one above all studies.
    """
    jobs = {cell: job_of(config, executor.images.content) for cell, config in {**networks.sources, **networks.rows}.items()}
    named = {job.folder: (job, f"{cell.row}, seed {cell.seed}") for cell, job in jobs.items()}
    trained = train_keyed(named, "network", executor)
    results = {cell: trained[job.folder] for cell, job in jobs.items()}
    rows = {cell: job for cell, job in jobs.items() if cell in networks.rows}
    judged = _audited(preset, rows, results, executor)
    measured = _measured(item, preset, networks, jobs, results, executor)
    values, errors = {}, {}
    for cell in rows:
        measurement = measured.get(cell, MeasurementResult())
        if error := judged[cell].error or measurement.error:
            errors[cell] = error
        else:
            values[cell] = {**_curves(results[cell]), **judged[cell].metrics, **measurement.values}
    spent = [result.seconds for result in (*trained.values(), *measured.values())]
    spent += [judged[cell].seconds - results[cell].seconds for cell in rows]
    return Reproduction(values, errors, sum(spent))


def _audited(
    preset: Preset, jobs: Mapping[Cell, Job], results: Mapping[Cell, TrainingResult], executor: Executor
) -> dict[Cell, NetworkResult]:
    """The results of the rows' networks, after audits by shadow models if there are some."""
    own = {cell: NetworkResult.of(results[cell]) for cell in jobs}
    if not preset.shadows:
        return own
    succeeded = {(cell.row, cell.seed): job for cell, job in jobs.items() if not results[cell].error}
    targets = audit_targets(succeeded, 0, shadows_of(succeeded, preset.shadows, executor))
    audits = audit_all(targets, ExpectedModels(0, preset.shadows), executor)
    return {cell: result.audited(audits.get((cell.row, cell.seed))) for cell, result in own.items()}


def _measured(
    item: Item, preset: Preset, networks: Networks, jobs: Mapping[Cell, Job], results: Mapping[Cell, TrainingResult],
    executor: Executor,
) -> dict[Cell, MeasurementResult]:  # fmt: skip
    """The item's measurement on each network that was trained, together with the sources of the same seed."""
    if item.measurement is None:
        return {}
    measurements, measured = {}, {}
    for cell in networks.rows:
        parties = {TARGET: cell} | {source.row: source for source in networks.sources if source.seed == cell.seed}
        failed = [f"{party.row}: {results[party].error}" for party in parties.values() if results[party].error]
        if failed:
            measured[cell] = MeasurementResult(error=failed[0])
            continue
        parties = {name: jobs[party] for name, party in parties.items()}
        measurements[cell] = MeasurementJob(item.measurement.function, parties, dict(preset.settings))
    content, root = executor.images.content, executor.workspace.root
    for cell, own in measurements.items():
        key = content.measurement_key(own.function, {name: job.params for name, job in own.networks.items()}, own.settings)
        known = stored_measurement(root, key)
        if known and not known.error:
            measured[cell] = known
    missing = {cell: own for cell, own in measurements.items() if cell not in measured}
    executor.report(f"{counted(len(measurements), 'measurement')}, {len(measurements) - len(missing)} of them made before")
    done = itertools.count(1)

    def ended(cell: Cell, result: MeasurementResult) -> None:
        failure = f" failed: {result.error}" if result.error else ""
        executor.report(f"[{next(done)}/{len(missing)}] measurement on {cell.row}, seed {cell.seed}{failure}")

    return measured | executor.map(measure, {cell: {"measurement": own} for cell, own in missing.items()}, MeasurementResult, ended)


def _curves(result: TrainingResult) -> dict[str, list[float]]:
    """Each column of the training curve as a series, such as `epoch` and `epoch/val_accuracy`."""
    names = list(result.curve[0]) if result.curve else []
    return {name: [row[name] for row in result.curve] for name in names if all(name in row for row in result.curve)}
