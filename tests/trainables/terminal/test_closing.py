"""The end of a command's output: the front, flags, revisions and locations."""

import io
import re
from dataclasses import replace

import answered
from confirming import confirmation, point
from rich.console import Console
from three_trials import TRIALS, metrics, outcome

from core.flags import FLAGS
from core.space import LogUniform, Switch, Uniform
from core.study import Constraint
from trainables.study.outcome import MLflowRefs, Outcome, front_revision
from trainables.study.site import Site
from trainables.study.tables import contrast_rows, point_to_ship
from trainables.study.text import comparison_text
from trainables.study.trial import Trial
from trainables.terminal.closing import (
    confirmation_lines,
    flag_lines,
    front_table,
    location_lines,
    print_summary,
    revision_lines,
    summary_json,
    undelivered_line,
)
from trainables.terminal.console import Terminal


def table(study: Outcome) -> str:
    """The table of the front as text."""
    console = Console(file=io.StringIO(), width=200)
    console.print(front_table(study))
    return console.file.getvalue()


def flagged() -> Outcome:
    """An outcome with flags: trial 0 is flagged on the front, trials 1 and 3 are excluded, and only trial 1 would be on it."""
    masked = {"flag/zero_gradients": 1.0, "flag/at_chance": 0.0}
    return outcome(
        Trial(0, {"loss": "crl"}, metrics(0.9, 0.1, 0.7, **{"flag/more_steps_help": 1.0})),
        Trial(1, {"loss": "crl"}, metrics(0.8, 0.8, 0.6, **masked)),
        Trial(3, {"loss": "crl"}, metrics(0.2, 0.05, 0.8, **masked)),
        Trial(4, {"loss": "crl"}, metrics(0.7, 0.2, 0.7)),
    )


# ---------------------------------------------------------------- the front


def test_the_front_of_a_study_without_completed_trials_is_an_empty_table():
    study = outcome()
    text = table(study)
    assert "Front of crl-1" in text and "loss.lambda" in text and front_table(study).row_count == 0
    study.trials += TRIALS[1:2]
    assert front_table(study).row_count == 0


def test_the_front_has_the_searched_knobs():
    text = table(outcome(*TRIALS))
    rows = [line for line in text.splitlines() if re.search(r"│ +\d", line)]
    assert len(rows) == 2 and "0 undefended" in rows[0] and "- │" in rows[0]  # a baseline without the knob
    assert re.search(r"1 │ +0\.667 │ +0\.500 │ +0\.550 │ +2 │", rows[1])
    assert "confirmed" not in text


def test_the_front_of_a_conditional_space_has_a_column_per_slot_and_knob():
    study = outcome(*TRIALS)
    relax = {"loss.alpha": Uniform(0, 1), "loss.upper": Uniform(0, 1)}
    crl = {"loss.lambda": LogUniform(0.1, 3), "loss.upper": Uniform(0.5, 1)}
    study.space = {"loss": Switch({"relaxloss": relax, "crl": crl}), "lr": Uniform(0, 1)}
    columns = {column.header: list(column.cells) for column in front_table(study).columns}
    assert list(columns)[4:] == ["loss", "loss.alpha", "loss.upper", "loss.lambda", "lr"]
    assert columns["loss"] == ["cross_entropy", "crl"]
    assert columns["loss.lambda"] == ["-", "2"] and columns["loss.alpha"] == ["-", "-"]


def test_a_confirmed_front_has_means_and_verdicts_instead_of_the_numbers_of_the_sweep():
    study = outcome(*TRIALS)
    study.confirmation = confirmation([point(1, metrics(0.65, 0.45, 0.56), probability=0.96)])
    columns = {column.header: list(column.cells) for column in front_table(study).columns}
    assert columns == {
        "trial": ["0 undefended", "1"], "verdict": ["failed", "stays 0.96"],
        "accuracy": ["-", "0.650\u00b10.020"], "robust_accuracy": ["-", "0.450\u00b10.020"], "mia_auc": ["-", "0.560\u00b10.020"],
        "loss.lambda": ["-", "2"],
    }  # fmt: skip


def test_confirmed_baselines_that_are_not_on_the_front_follow_it_and_an_auc_at_chance_has_a_question_mark():
    dominated = Trial(5, {"loss": "cross_entropy"}, metrics(0.5, 0.05, 0.8), baseline="plain")
    study = outcome(*TRIALS, dominated)
    points = [point(1, metrics(0.65, 0.45, 0.53), chance=0.54), point(5, metrics(0.5, 0.05, 0.8), chance=0.54, probability=0.01)]
    study.confirmation = confirmation(points)
    columns = {column.header: list(column.cells) for column in front_table(study).columns}
    assert columns["trial"] == ["0 undefended", "1", "5 plain"] and columns["verdict"][1:] == ["undecided 0.50", "leaves 0.01"]
    assert columns["mia_auc"][1:] == ["0.530\u00b10.020 ?", "0.800\u00b10.020"]
    assert "95 % interval; ? not resolved: does not exceed the chance level" in " ".join(table(study).split())
    study.confirmation = confirmation([replace(points[0], chance=0.5), points[1]])
    assert "95 % interval" in table(study) and "?" not in table(study)


def test_a_point_that_entered_the_front_later_is_not_confirmed_rather_than_failed():
    study = outcome(*TRIALS)
    study.confirmation = confirmation([point(1, metrics(0.65, 0.45, 0.56))])
    study.revisions = [front_revision(study, study, "with more", "now", {})]
    assert "not confirmed" in table(study) and "failed" not in table(study)


# ---------------------------------------------------------------- flags


def test_flagged_trials_are_marked_in_the_table_and_the_mark_is_explained():
    study = flagged()
    text = table(study)
    assert re.search(r"│ +0 ! │ +0\.900", text) and re.search(r"│ +4 │ +0\.700", text)
    assert "! flagged in the sweep, see below" in text
    study.trials = study.trials[3:]
    assert "!" not in table(study)


def test_every_flag_that_affects_the_front_is_printed_with_its_meaning_and_advice():
    study = flagged()
    assert flag_lines(study) == [
        f"flag zero_gradients, raised by the sweep's numbers (excluded from its front: trial 1): "
        f"{FLAGS['zero_gradients'].means}; {FLAGS['zero_gradients'].advice}",
        f"flag more_steps_help, raised by the sweep's numbers (on its front: trial 0): "
        f"{FLAGS['more_steps_help'].means}; {FLAGS['more_steps_help'].advice}",
    ]
    study.trials[0].metrics["flag/of_old"] = 1.0
    assert "flag of_old, raised by the sweep's numbers (on its front: trial 0)" in flag_lines(study)


def test_a_flag_of_the_confirmed_numbers_has_a_line_of_its_own():
    study = outcome(*TRIALS)
    points = [point(n, metrics(0.6, 0.4, 0.6), flags=("random_forward",)) for n in (0, 1)]
    study.confirmation = confirmation(points)
    (line,) = flag_lines(study)
    assert line == (
        f"flag random_forward, raised by the confirmed numbers (excluded from their front: trials 0, 1): "
        f"{FLAGS['random_forward'].means}; {FLAGS['random_forward'].advice}"
    )


def test_a_flag_of_every_trial_is_printed_once_and_marks_none():
    study = flagged()
    for trial in study.trials:
        trial.metrics["flag/few_non_members"] = 1.0
    start = "flag few_non_members, raised by the sweep's numbers (every trial): "
    assert len([line for line in flag_lines(study) if line.startswith(start)]) == 1
    assert next(list(column.cells) for column in front_table(study).columns) == ["0 !", "4"]


# ---------------------------------------------------------------- confirmation


def test_the_confirmation_is_printed_with_verdicts_chance_levels_contrasts_and_the_point_to_ship():
    study = answered.outcome()
    lines = confirmation_lines(study)
    groups = {v: [c.number for c in study.confirmed if c.verdict == v] for v in ("stays", "leaves", "undecided")}
    assert lines[0] == "confirmation of 5 points: " + "; ".join(
        f"{len(own)} {word}" + (f" (trials {', '.join(map(str, sorted(own)))})" if own else "")
        for word, own in zip(("stay", "leave", "undecided"), groups.values(), strict=True)
    )
    levels = [c.chance for c in study.confirmed]
    assert lines[1] == f"chance level of mia_auc: {min(levels):.3f} to {max(levels):.3f}"
    difference = study.confirmation.estimates.difference(1, 0, "mia_auc")
    found = comparison_text("mia_auc", "trial 1", "trial 0", difference)
    assert lines[2] == f"contrast: Does CRL lower the leak? yes: {found}"
    assert lines[3].startswith("contrast: Does adversarial training raise the accuracy? no: the accuracy of trial 2 is 0.1")
    assert " lower than that of trial 0 (95 % interval 0.1" in lines[3]
    assert lines[5] == (
        "point to ship: trial 3 (crl + pgd 0.08), the balanced compromise (--balanced) of the 4 points on the confirmed front, as "
        "no requirement was given"
    )
    assert lines[6].startswith("Compared with no defence (trial 0), it costs 0.0") and "robust accuracy" in lines[6]
    assert lines[7].startswith("Its probability of being the best choice is ")
    assert lines[8:10] == ["To register its model:", "  python studies/pick.py crl-1 --balanced"]
    assert not [line for line in lines if "\N{MINUS SIGN}" in line or "minus" in line]


def test_a_point_to_ship_whose_own_verdict_is_undecided_has_a_caveat():
    study = answered.outcome()
    points = [replace(c, probability=0.9) if c.number == answered.BOTH else c for c in study.confirmed]
    undecided = replace(study, confirmation=replace(study.confirmation, points=tuple(points)))
    caveat = "The verdict on its place on the front is undecided: its probability of being on the front is 0.900."
    assert caveat in confirmation_lines(undecided) and caveat not in confirmation_lines(study)


def test_points_whose_auc_does_not_exceed_its_chance_level_are_printed():
    study = outcome(*TRIALS)
    study.confirmation = confirmation([point(1, metrics(0.65, 0.45, 0.53), chance=0.54)])
    assert "chance level of mia_auc: 0.540; not resolved: trial 1" in confirmation_lines(study)


def test_a_skipped_confirmation_leaves_the_chance_level_of_the_sweep():
    assert confirmation_lines(outcome(*TRIALS)) == []
    trials = [replace(t, metrics={**t.metrics, "mia_auc_chance": 0.56}) if t.metrics else t for t in TRIALS]
    assert confirmation_lines(outcome(*trials)) == ["chance level of mia_auc: 0.560; not resolved: trial 1"]


# ---------------------------------------------------------------- revisions


def test_the_changes_of_a_revision_are_printed_in_numbers():
    study = outcome(TRIALS[0], TRIALS[2], Trial(5, {"loss": "crl"}, metrics(0.6, 0.45, 0.6)))
    trials = [replace(t, metrics=t.metrics | {"robust_accuracy": 0.2}) if t.number == 1 else t for t in study.trials]
    after = replace(study, trials=trials)
    after.revisions = [front_revision(study, after, "with more", "now", {})]
    assert revision_lines(after) == [
        "robust_accuracy: on average 0.100 lower over 3 trials; largest change 0.300 lower (trial 1)",
        "left the front: none; entered it: 5",
    ]
    assert "Front of crl-1, version 2" in table(after)
    unchanged = replace(study, revisions=[front_revision(study, study, "with more", "now", {})])
    assert revision_lines(unchanged) == ["no objective changed", "left the front: none; entered it: none"]


def test_new_flags_of_a_revision_are_printed_with_their_trials():
    study = outcome(*TRIALS)
    trials = [replace(t, metrics=t.metrics | {"flag/more_steps_help": 1.0}) if t.metrics else t for t in study.trials]
    after = replace(study, trials=trials)
    after.revisions = [front_revision(study, after, "with more", "now", {})]
    assert revision_lines(after)[-1] == "new flag more_steps_help: trials 0 undefended, 1"


# ---------------------------------------------------------------- summary


def summary_of(study: Outcome, capsys) -> tuple[int, list[str]]:
    """The exit code and the lines of the summary of a study whose runs are all in MLflow."""
    code = print_summary(study, "runs/crl-1", Site(), Terminal(), undelivered=0, last_error="")
    return code, capsys.readouterr().out.splitlines()


def test_an_empty_front_is_explained_with_the_trial_that_is_nearest_to_the_constraints(capsys):
    study = replace(outcome(TRIALS[0], TRIALS[2]), planned=2)
    assert summary_of(study, capsys)[0] == 0
    code, lines = summary_of(replace(study, require=(Constraint.of("accuracy>=0.95"),)), capsys)
    assert code == 1 and lines[-1] == (
        "the front is empty: no trial has accuracy>=0.95; the nearest is trial 0 with accuracy 0.9000; relax the constraints"
    )


def test_failed_and_missing_trials_are_printed_and_change_the_exit_code(capsys):
    code, lines = summary_of(outcome(*TRIALS), capsys)
    assert code == 1 and lines[-2:] == [
        "trial 2 failed: TrialError: not finite: [train_loss]", "3 trials were not run; resume with --resume crl-1",
    ]  # fmt: skip


def test_counts_in_the_summary_agree_with_their_nouns(capsys):
    reused = [replace(TRIALS[0], reused_from="runs/old/trials/00000"), TRIALS[2]]
    study = replace(outcome(*reused), planned=3)
    study.confirmation = confirmation([point(0, metrics(0.9, 0.1, 0.7), failed=1)])
    study.revisions = [front_revision(study, study, "with more", "now", {})]
    lines = summary_of(study, capsys)[1]
    assert "confirmation: 1 replicate of trial 0 failed" in lines
    assert "confirmation: trial 1 is not confirmed, because it entered the front later" in lines
    assert (
        "1 of 2 trials was not trained again: the same network, with the same images, settings, seed and code, is stored from an "
        "earlier training"
    ) in lines
    assert lines[-1] == "1 trial was not run; resume with --resume crl-1"
    assert undelivered_line(1, "down", "again") == "1 write did not reach MLflow (down); when it is up again: again"


def test_the_summary_for_programs_has_the_contrasts_and_the_point_to_ship():
    study = answered.outcome()
    end = summary_json(study, "runs/crl-1", Site(), "run-1", 0)
    assert end["contrasts"] == contrast_rows(study) and len(end["contrasts"]) == 3
    assert end["point_to_ship"] == point_to_ship(study) and end["point_to_ship"]["trial"] == answered.BOTH
    assert summary_json(outcome(*TRIALS), "runs/crl-1", Site(), "run-1", 0)["point_to_ship"] is None


# ---------------------------------------------------------------- locations


def test_locations_contain_no_passwords():
    folder = "s3://key:secret@host/runs"
    for uri in ("http://me:secret@host:5000", "postgresql://me:secret@host/db"):
        lines = location_lines(folder, Site(tracking_uri=uri), replace(outcome(), mlflow=MLflowRefs(uri, "1")))
        assert lines[2].startswith("trials: http") and lines[2].endswith("&workflowType=machine_learning")
        assert lines[0] == "report: s3://***@host/runs/report.html" and "secret" not in "".join(lines)
    _, command = location_lines(folder, Site(), outcome())
    assert command.endswith("-m mlflow ui --backend-store-uri sqlite:///mlflow.db")
