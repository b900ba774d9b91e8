"""The command `studies/compare.py`: its output, its warnings and its errors."""

import csv
import io
import runpy
import sys
from pathlib import Path

import pytest
from compared import ACCURATE, BETTER, NAMES, OBJECTIVES, PRIVATE, ROBUST, Point, measured, write_studies
from mlflow import MlflowClient

from core import pareto
from trainables.commands.compare import main
from trainables.decisions.fronts import epsilon_indicator

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """URI of a store with the studies of `write_studies`."""
    write_studies(uri := f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")
    return uri


def run(capsys, *argv: str) -> tuple[int, str, str]:
    """Exit code, output and errors."""
    with pytest.raises(SystemExit) as exit_info:
        main(argv)
    out, err = capsys.readouterr()
    return int(exit_info.value.code or 0), out, err


def losses(*points: Point):
    """Normalised losses of these points."""
    return pareto.losses([measured(p) for p in points], OBJECTIVES)


def cells(table: str) -> dict[str, list[str]]:
    """The cells of a printed table by the first one of their row."""
    rows = ([cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if "│" in line)
    return {first: rest for first, *rest in rows}


def test_table_csv_and_figure_agree_and_are_the_same_for_every_run(store, tmp_path, capsys):
    outputs = []
    for folder in (tmp_path / "a/b", tmp_path / "again"):
        code, out, _ = run(capsys, "three", "better", "confirmed", "empty", "--tracking-uri", store, "--output", str(folder))
        assert code == 0
        files = ((folder / name).read_bytes() for name in ("compare.csv", "compare.png"))
        outputs.append([out.replace(str(folder), ""), *files])
    assert outputs[0] == outputs[1]
    out = outputs[0][0]
    volumes, points = (cells(part) for part in out.split("Points of each front"))
    headings = [[cell.strip() for cell in line.split("┃")[1:-1]] for line in out.splitlines() if "┃" in line]
    assert headings == [
        ["study", "trials", "confirmed", "95 % interval", "of the sweep"],
        ["study", "numbers", "points", *(f"best {name} (trial)" for name in NAMES), "non-dominated", "epsilon indicator"],
    ]
    three = pareto.hypervolume(losses(ACCURATE, ROBUST, PRIVATE))
    indicator = epsilon_indicator(losses(ACCURATE, ROBUST, PRIVATE), losses(BETTER))
    assert volumes["three"] == ["3", "-", "-", f"{three:.4f}"]
    assert points["three"] == ["sweep", "3", "0.950 (0)", "0.600 (1)", "0.510 (2)", "2/3 (67%)", f"{indicator:.3f}"]
    assert volumes["confirmed"] == ["3", "0.5000", "0.400 to 0.600", f"{three:.4f}"]
    assert points["confirmed"][:2] == ["confirmed", "2"]
    assert volumes["empty"] == ["0", "-", "-", "0.0000"] and points["empty"] == ["sweep", "0", "-", "-", "-", "-", "-"]
    assert points["all studies together"] == ["", "6", "", "", "", "3/6 (50%)", ""] and "all studies together" not in volumes
    assert "accuracy 0.1 to 1, robust_accuracy 0 to 1, mia_auc 1 to 0.5" in out
    rows = list(csv.DictReader(io.StringIO(outputs[0][1].decode())))
    assert [(row["study"], row["points"], row["trial"], row["non_dominated"]) for row in rows] == [
        ("three", "sweep", "0", "True"), ("three", "sweep", "1", "False"), ("three", "sweep", "2", "True"),
        ("better", "sweep", "0", "True"), ("confirmed", "confirmed", "0", "False"), ("confirmed", "confirmed", "2", "False"),
    ]  # fmt: skip
    assert [float(rows[1][name]) for name in NAMES] == list(ROBUST)
    assert [row["flags"] for row in rows[2:4]] == ["", "more_steps_help"] and rows[0]["baseline"] == "plain"
    assert MlflowClient(store).get_run(rows[3]["run"]).data.metrics["accuracy"] == BETTER[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not-dataset", "they differ in dataset: three: digits; not-dataset: mnist"),
        ("not-pool", "they differ in pool: three: 0; not-pool: 500"),
        ("not-norm", "they differ in judge.norm: three: linf; not-norm: l2"),
        ("not-epsilon", "they differ in judge.epsilon: three: 0.03137254901960784; not-epsilon: 0.1"),
        ("not-part", "they differ in judge.part: three: val; not-part: test"),
        ("not-classes", "they differ in references and ideals: three: accuracy 0.1 to 1"),
        ("not-metrics", "they differ in objectives: three: accuracy (max), mia_auc (min), robust_accuracy (max)"),
        ("not-direction", "not-direction: accuracy (max), mia_auc (max), robust_accuracy (max)"),
        ("not-over", "not-over is not finished, its status in MLflow is RUNNING"),
        ("bettter", "'bettter' (did you mean 'better'?), expected one of: better, confirmed, empty, excluded, lost, lucky, more"),
        ("three", "three is named twice"),
    ],
)  # fmt: skip
def test_studies_that_cannot_be_compared_are_refused_in_one_line(store, tmp_path, capsys, name, message):
    code, out, err = run(capsys, "three", name, "--tracking-uri", store, "--output", str(tmp_path / "out"))
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_one_study_a_missing_store_and_a_file_for_a_folder_are_refused(store, tmp_path, capsys):
    missing = f"sqlite:///{tmp_path}/none.db"
    (tmp_path / "file").write_text("")
    for argv, message in (
        (("three", "--tracking-uri", store), "a comparison needs two studies, got only three"),
        (("three", "better", "--tracking-uri", missing), "there is no MLflow store at"),
        (("three", "better", "--tracking-uri", store, "--output", str(tmp_path / "file")), "cannot write to --output"),
        ((), "required: NAME"),
    ):
        code, out, err = run(capsys, *argv)
        assert (code, out) == (2, "") and message in err and err.count("\n") == 1, argv
    assert not (tmp_path / "none.db").exists()


def test_an_unfair_comparison_is_printed_with_warnings(store, tmp_path, capsys):
    code, out, _ = run(capsys, "three", "strong", "excluded", "--tracking-uri", store, "--output", str(tmp_path))
    assert code == 0 and [line for line in out.splitlines() if line.startswith("warning: ")] == [
        "warning: judge.suite differs, three: quick; strong: strong; excluded: quick",
        "warning: front_version differs, three: 1; strong: 1; excluded: 2; a front that met more attacks or audits looks worse",
        "warning: a sweep's front is selected from noisy trials and looks better than a confirmed one, "
        "three: sweep; strong: sweep; excluded: confirmed",
        "warning: the hypervolume of a sweep rewards noise and the number of trials, three: 3 trials; strong: 3 trials; "
        "confirm the front",
    ]
    assert "the hypervolume of three" not in out
    _, out, _ = run(capsys, "three", "more", "--tracking-uri", store, "--output", str(tmp_path))
    (warning,) = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert "three: 3 trials; more: 5 trials" in warning


def test_two_confirmed_fronts_are_distinguished_by_their_hypervolumes(store, tmp_path, capsys):
    code, out, _ = run(capsys, "confirmed", "excluded", "--tracking-uri", store, "--output", str(tmp_path))
    assert code == 0 and [line for line in out.splitlines() if line.startswith(("the hypervolume of", "assumed", "warning"))] == [
        "the hypervolume of confirmed is 0.2000 higher than that of excluded (95 % interval 0.0197 to 0.3118): "
        "the front of confirmed is better",
        "assumed: the errors of the studies are independent. Their networks are judged on images of the same pool, which makes the "
        "intervals too wide rather than too narrow.",
        "warning: front_version differs, confirmed: 1; excluded: 2; a front that met more attacks or audits looks worse",
    ]


def test_the_script_runs_the_command(store, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["compare.py", "three", "better", "--tracking-uri", store, "--output", str(tmp_path)])
    with pytest.raises(SystemExit) as exit_info:
        runpy.run_path(str(ROOT / "studies/compare.py"), run_name="__main__")
    assert exit_info.value.code == 0 and "all studies together" in capsys.readouterr().out
