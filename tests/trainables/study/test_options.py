"""Options that are declared on the fields of `Plan` and `Site`: the parser, resuming and printed commands follow from them."""

import dataclasses
import json
import shlex
import sys
from dataclasses import dataclass

import command_lines
import finished
import pytest

from studies.crl_tradeoff import STUDY
from trainables.commands import arguments, audit, rejudge, run, study
from trainables.commands.study import main, parser
from trainables.storage import takeover
from trainables.study.options import Option, add_options, all_options, given_options, integer, option, options, options_of, share
from trainables.study.plan import Plan
from trainables.study.site import Site
from trainables.terminal.provenance import resume_command

# ---------------------------------------------------------------- single options

JSON = Option("--json", "", "text", {"dest": "output", "action": "store_const", "const": "json"})


@pytest.mark.parametrize("declared, value, words", [
    (Option("--trials", "", None, {"type": int}), 7, ["--trials", "7"]),
    (Option("--trials", "", 7, {"type": int}), 7, []),
    (Option("--set", "", [], {"nargs": "+"}), ["a=1", "b=2"], ["--set", "a=1", "b=2"]),
    (Option("--early-stopping", "", None, {"nargs": "*"}), [], ["--early-stopping"]),
    (Option("--require", "", [], {"action": "append"}), ["a>=1", "b<=2"], ["--require", "a>=1", "--require", "b<=2"]),
    (Option("--no-confirm", "", False, {"action": "store_true"}), True, ["--no-confirm"]),
    (Option("--no-confirm", "", False, {"action": "store_true"}), False, []),
    (JSON, "json", ["--json"]),
    (JSON, "text", []),
])  # fmt: skip
def test_the_words_of_an_option_are_parsed_to_its_value(declared, value, words):
    assert declared.words(value) == words
    add_options(p := arguments.Parser(), [declared])
    assert getattr(p.parse_args(words), declared.name, declared.default) == value


def test_an_option_without_value_has_no_words_for_the_value_of_another_option_of_its_field():
    assert JSON.words("quiet") == []


def test_the_flag_of_an_option_is_the_name_of_its_field_unless_it_is_given():
    made = dataclasses.make_dataclass("Made", [
        ("two_words", int, option(0, "")), ("other", int, option(0, "", flag="--short")), ("no_option", int, 0),
        ("several", int, dataclasses.field(default=0, metadata=options(Option("--a", ""), Option("--b", "")))),
    ])  # fmt: skip
    assert {name: [o.flag for o in declared] for name, declared in options_of(made).items()} == {
        "two_words": ["--two-words"], "other": ["--short"], "several": ["--a", "--b"],
    }  # fmt: skip


def test_resources_are_fractions_of_one_or_integers():
    assert [share(text) for text in ("0", "1/4", "0.5", "1", "3")] == [0, 0.25, 0.5, 1, 3]


# ---------------------------------------------------------------- the options of a study


def test_the_parser_of_a_study_has_the_flags_that_plan_and_site_declare_and_no_list_of_its_own():
    declared = [o.flag for cls in (Plan, Site) for o in all_options(cls)]
    flags = [flag for action in parser(STUDY)._actions for flag in action.option_strings]
    assert sorted(flags) == sorted([*declared, "--resume", "--dry-run", "-h", "--help"])


def test_without_options_the_site_has_its_defaults():
    assert command_lines.site() == Site()


def test_every_option_of_a_site_reaches_its_field():
    words = ["--address", "auto", "--workers-per-trial", "2", "--gpus-per-worker", "1/4", "--cpus-per-worker", "2",
             "--concurrency", "3", "--storage", "s3://b/x", "--tracking-uri", "http://h:5000",
             "--data-dir", "d", "--gpus-per-shadow", "1/8", "--quiet"]  # fmt: skip
    site = Site(
        address="auto", workers_per_trial=2, cpus_per_worker=2.0, gpus_per_worker=0.25, gpus_per_shadow=0.125, concurrency=3,
        storage="s3://b/x", tracking_uri="http://h:5000", data_dir="d", output="quiet",
    )  # fmt: skip
    assert command_lines.site(*words) == site
    assert all(getattr(site, field.name) != getattr(Site(), field.name) for field in dataclasses.fields(Site))


def test_the_options_of_the_plan_that_were_given_are_known_and_those_of_the_site_are_not_among_them():
    args = command_lines.parse("--trials", "5", "--set", "epochs=3", "--no-confirm", "--concurrency", "2")
    assert [(o.flag, value) for o, value in given_options(Plan, args)] == [
        ("--set", ["epochs=3"]), ("--trials", 5), ("--no-confirm", True),
    ]  # fmt: skip


# ---------------------------------------------------------------- resuming


@pytest.fixture
def resumed(tmp_path, monkeypatch, capsys):
    """Stores a plan, and resumes it with words; returns the exit code and the error message. Nothing is trained."""
    started = []
    monkeypatch.setattr(run, "_run", lambda execution, images: started.append(execution.plan) or 0)

    def resume(plan: Plan, *words: str) -> tuple[int, str]:
        folder = tmp_path / "runs" / plan.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.json").write_text(json.dumps(plan.to_json()))
        started.clear()
        storage = ["--storage", str(tmp_path / "runs"), "--tracking-uri", f"sqlite:///{tmp_path}/mlflow.db"]
        with pytest.raises(SystemExit) as exit_info:
            main(STUDY, ["--resume", plan.name, *storage, *words])
        assert started == ([plan] if exit_info.value.code == 0 else [])
        return exit_info.value.code, capsys.readouterr().err

    return resume


START = ("--set", "epochs=3", "net.width=4", "--trials", "9", "--seed", "4", "--no-confirm", "--require", "accuracy>=0.2")


@pytest.mark.parametrize("words", [
    (), START, START[:3], ("--trials", "9"), ("--sampler", "gp"), ("--sampler", "auto"),
    ("--no-confirm", "--require", "accuracy>=0.2"), ("--preset", "dev"), ("--shadows", "0"),
], ids=" ".join)  # fmt: skip
def test_options_that_agree_with_the_stored_plan_are_accepted(words, resumed):
    assert resumed(command_lines.plan(*START), *words) == (0, "")


@pytest.mark.parametrize("words, dropped", [
    (("--trials", "8"), "--trials"), (("--seed", "5"), "--seed"), (("--seed", "0"), "--seed"), (("--set", "epochs=3"), "--set"),
    (("--sampler", "tpe"), "--sampler"),
    (("--require", "accuracy>=0.3", "--trials", "8"), "--trials, --require"), (("--shadows", "1"), "--shadows"),
    (("--early-stopping",), "--early-stopping"), (("--preset", "paper"), "--preset"), (("--dataset", "mnist"), "--dataset"),
    (("--space", "net.hidden=4:8"), "--space"), (("--seeds-per-trial", "2"), "--seeds-per-trial"),
])  # fmt: skip
def test_options_that_would_change_the_stored_plan_are_refused(words, dropped, resumed):
    code, err = resumed(command_lines.plan(*START), *words)
    assert code == 2 and err == f"error: --resume continues the study as it was planned; drop {dropped}\n"


def test_confirmation_with_one_replicate_cannot_be_skipped_by_resuming():
    """`True == 1` must not let `--no-confirm` pass as the planned number of replicates."""
    no_confirm, _ = options_of(Plan)["replicates"]
    assert not finished.plan(replicates=1).was_requested(no_confirm, True)
    assert finished.plan(replicates=0, requested={"no_confirm": True}).was_requested(no_confirm, True)


def test_the_printed_command_resumes_the_same_plan_at_the_same_site(resumed):
    plan = command_lines.plan(*START)
    site = command_lines.site(
        "--address", "h:1", "--workers-per-trial", "2", "--storage", "a b", "--tracking-uri", "sqlite:///my.db",
        "--data-dir", "d", "--gpus-per-worker", "0", "--concurrency", "3", "--json",
    )  # fmt: skip
    words = shlex.split(resume_command(plan, site))
    assert words[:2] == [sys.executable, "studies/crl_tradeoff.py"]
    args = parser(STUDY).parse_args(words[2:])
    assert args.resume == plan.name and arguments.site_of(args) == site
    assert {o.name: value for o, value in given_options(Plan, args)} == plan.requested
    assert resumed(plan, *shlex.split(resume_command(plan, Site()))[4:]) == (0, "")


# ---------------------------------------------------------------- an added field


@dataclass(frozen=True, kw_only=True)
class PatientPlan(Plan):
    """A plan with one more field; its option is declared here and nowhere else."""

    patience: int = option(3, "epochs to wait (default: {default})", type=integer(1), metavar="N")


@dataclass(frozen=True, kw_only=True)
class QueueSite(Site):
    """A site with one more field; its option is declared here and nowhere else."""

    queue_name: str = option("main", "queue to wait in (default: {default})", metavar="QUEUE")


@pytest.fixture
def patient(monkeypatch):
    """Puts `PatientPlan` in the place of `Plan` where the commands create and load plans."""
    for module in (study, takeover):
        monkeypatch.setattr(module, "Plan", PatientPlan)


@pytest.fixture
def queued(monkeypatch):
    """Puts `QueueSite` in the place of `Site` where the commands create sites."""
    monkeypatch.setattr(arguments, "Site", QueueSite)


def test_an_added_field_of_the_plan_is_an_option_in_the_help_and_its_value_is_in_the_plan(patient):
    assert "--patience N epochs to wait (default: 3)" in " ".join(parser(STUDY).format_help().split())
    plan, default = command_lines.plan("--patience", "7"), command_lines.plan()
    assert isinstance(plan, PatientPlan) and plan.patience == 7 and plan.requested == {"patience": 7}
    assert isinstance(default, PatientPlan) and default.patience == 3 and default.requested == {}


def test_an_added_field_of_the_plan_is_stored_and_plans_from_before_get_its_default(patient):
    plan = command_lines.plan("--patience", "7")
    plain = json.loads(json.dumps(plan.to_json()))
    assert plain["patience"] == 7 and PatientPlan.of_json(plain) == plan
    earlier = finished.plan()
    assert type(earlier) is Plan and PatientPlan.of_json(json.loads(json.dumps(earlier.to_json()))).patience == 3


def test_the_command_that_resumes_contains_the_value_of_an_added_field_of_the_plan(patient):
    plan = command_lines.plan("--patience", "7", "--trials", "9")
    words = shlex.split(resume_command(plan, Site()))
    assert words[2:] == ["--resume", plan.name, "--trials", "9", "--patience", "7"]
    assert "--patience" not in resume_command(command_lines.plan(), Site())


def test_resuming_accepts_the_planned_value_of_an_added_field_and_refuses_another_one(patient, resumed):
    plan = command_lines.plan("--patience", "7")
    assert resumed(plan) == resumed(plan, "--patience", "7") == (0, "")
    assert resumed(plan, *shlex.split(resume_command(plan, Site()))[4:]) == (0, "")
    for other in ("8", "3"):  # 3 is the default of the option
        code, err = resumed(plan, "--patience", other)
        assert code == 2 and err == "error: --resume continues the study as it was planned; drop --patience\n"


def test_an_added_field_of_the_site_is_an_option_of_every_command_that_runs_a_study(queued):
    assert "--queue-name QUEUE queue to wait in (default: main)" in " ".join(parser(STUDY).format_help().split())
    assert command_lines.site("--queue-name", "long") == QueueSite(queue_name="long") and command_lines.site() == QueueSite()
    for command in (audit, rejudge):
        assert "--queue-name QUEUE" in command.parser().format_help()


def test_the_command_that_resumes_contains_the_value_of_an_added_field_of_the_site(queued):
    plan = command_lines.plan()
    command = resume_command(plan, command_lines.site("--queue-name", "long"))
    assert shlex.split(command)[2:] == ["--resume", plan.name, "--queue-name", "long"]
    assert "--queue-name" not in resume_command(plan, command_lines.site("--queue-name", "main"))


def test_resuming_never_refuses_an_added_field_of_the_site(queued, resumed):
    plan = command_lines.plan("--queue-name", "long")
    assert "queue_name" not in plan.requested
    assert resumed(plan) == resumed(plan, "--queue-name", "other") == resumed(plan, "--queue-name", "main") == (0, "")


def test_added_fields_complete_the_flags_of_the_parser(patient, queued):
    declared = {o.flag for cls in (PatientPlan, QueueSite) for o in all_options(cls)}
    flags = {flag for action in parser(STUDY)._actions for flag in action.option_strings}
    assert declared >= {"--patience", "--queue-name"} and flags == declared | {"--resume", "--dry-run", "-h", "--help"}
