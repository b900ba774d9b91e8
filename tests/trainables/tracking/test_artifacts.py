"""Where MLflow keeps a study's artifacts: below the storage, for all studies, and nowhere else without a message."""

import os
import shutil
from pathlib import Path

import finished
import pytest
from mlflow import MlflowClient
from tracked import artifacts_of, files_of, outcome, parent_of, plan, sqlite, trial

from core.errors import InputError
from trainables.commands.pick import main as pick
from trainables.storage.store import Store
from trainables.tracking.artifacts import check_artifacts, check_models, new_location
from trainables.tracking.client import connect
from trainables.tracking.tracker import Tracker

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


def log(uri: str, storage: Path, name: str = "s-1") -> None:
    """Log a finished study whose folder is below a storage."""
    known = outcome(trial(0))
    tracker = Tracker(uri, plan(name=name), known, home=str(storage / name))
    tracker.publish(files_of(known), 1)
    assert tracker.close() == 0, tracker.last_error


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project directory with a finished study, logged to its own database; it must not be changed."""
    folder = tmp_path_factory.mktemp("project")
    finished.study(folder / "runs")
    log(sqlite(folder), folder / "runs")
    return folder


def test_artifacts_are_beside_the_studies_so_that_deleting_a_study_deletes_no_other_ones(tmp_path):
    uri, storage = sqlite(tmp_path), tmp_path / "runs"
    for name in ("s-1", "s-2"):
        (storage / name).mkdir(parents=True)
        log(uri, storage, name)
    shutil.rmtree(storage / "s-1")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("s")
    assert experiment.artifact_location == (storage / "mlartifacts/s").as_uri()
    for run in client.search_runs([experiment.experiment_id], "tags.`trilemma.kind` = 'study'"):
        assert (artifacts_of(run) / "report.html").exists()
    assert sorted(path.name for path in storage.iterdir()) == ["mlartifacts", "s-2"]


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "postgresql://me@host/db", "mysql://host/db"])
def test_every_database_has_the_same_location_without_options_of_the_storage_and_a_server_chooses_its_own(uri, tmp_path):
    s3 = Store.at("s3://bucket/runs?endpoint_override=127.0.0.1:1&scheme=http")
    assert new_location(uri, "s", Store.at(str(tmp_path))) == f"{tmp_path.as_uri()}/mlartifacts/s"
    assert new_location(uri, "s", s3) == "s3://bucket/runs/mlartifacts/s"
    assert new_location(uri, "s", Store("gcs://bucket/runs")) == "gs://bucket/runs/mlartifacts/s"
    assert new_location("http://host:5000", "s", s3) is None


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_a_model_is_not_written_to_the_place_where_the_project_was(how, project, tmp_path, monkeypatch, capfd):
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(project, old)
    shutil.rmtree(old / "runs/mlartifacts")
    (old / "mlflow.db").unlink()
    log(sqlite(old), old / "runs")
    old.rename(new) if how == "moved" else shutil.copytree(old, new)
    before = finished.everything(tmp_path)
    fragments = [f"{old}/runs/mlartifacts/s", "--storage", "--tracking-uri sqlite:///new.db", "--resume NAME"]
    finished.refuses(pick, ["s-1", "--minimize", "mia_auc"], fragments, new, monkeypatch, capfd)
    assert finished.everything(tmp_path) == before
    with pytest.raises(SystemExit) as done:  # only what writes needs the location
        pick(["s-1", "--minimize", "mia_auc", "--no-register"])
    assert done.value.code == 0
    if how == "moved":  # two ways out
        check_artifacts("sqlite:///new.db", "s", Store.at("runs"))
        old.symlink_to(new)
        check_artifacts("sqlite:///mlflow.db", "s", Store.at("runs"))


def test_a_second_storage_and_a_lost_location_are_reported(tmp_path):
    uri, first, second = sqlite(tmp_path), tmp_path / "first", tmp_path / "second"
    log(uri, first)
    check_artifacts(uri, "s", Store.at(str(first)))
    check_artifacts(uri, "another", Store.at(str(second)))
    with pytest.raises(InputError, match=f"in {first}/mlartifacts/s, not below --storage {second}; use that storage, or"):
        check_artifacts(uri, "s", Store.at(str(second)))
    with pytest.raises(InputError, match="not below --storage s3://bucket/runs"):
        check_artifacts(uri, "s", Store("s3://bucket/runs"))
    shutil.rmtree(first / "mlartifacts")
    with pytest.raises(InputError, match="which does not exist; restore that folder, or"):
        check_artifacts(uri, "s", Store.at(str(first)))
    assert not (first / "mlartifacts").exists()


def test_a_location_that_cannot_be_written_is_reported(tmp_path):
    uri = sqlite(tmp_path)
    connect(uri).create_experiment("s", "file:///proc/self/task")
    with pytest.raises(InputError, match="cannot be written"):
        check_artifacts(uri, "s", Store.at("/proc"))


def test_the_location_of_earlier_versions_beside_the_database_is_still_used(tmp_path):
    uri = sqlite(tmp_path)
    (tmp_path / "mlartifacts/s").mkdir(parents=True)
    connect(uri).create_experiment("s", (tmp_path / "mlartifacts/s").as_uri())
    check_artifacts(uri, "s", Store.at(str(tmp_path / "runs")))
    log(uri, tmp_path / "runs")
    assert artifacts_of(parent_of(uri)[1]).is_relative_to(tmp_path / "mlartifacts/s")


def test_mlflow_uses_the_s3_server_of_the_storage_unless_the_environment_names_one(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "")
    for given, used in (("", "http://127.0.0.1:1"), ("http://other:2", "http://other:2")):
        monkeypatch.setitem(os.environ, "MLFLOW_S3_ENDPOINT_URL", given)
        if not given:
            del os.environ["MLFLOW_S3_ENDPOINT_URL"]
        check_artifacts(f"sqlite:///{tmp_path}/no.db", "s", Store.at("s3://b/r?endpoint_override=127.0.0.1:1&scheme=http"))
        assert os.environ["MLFLOW_S3_ENDPOINT_URL"] == used


def test_a_directory_with_special_characters_has_the_store_and_the_artifacts_and_nothing_is_beside_it(tmp_path, monkeypatch):
    """MLflow puts the working directory into SQL unquoted when it initialises a database."""
    directory = tmp_path / "job#7?a=b&c %2F é'\";x"
    directory.mkdir()
    monkeypatch.chdir(directory)
    log("sqlite:///mlflow.db", Path("runs").absolute())
    assert [path.name for path in tmp_path.iterdir()] == [directory.name]
    assert sorted(path.name for path in directory.iterdir()) == ["mlflow.db", "runs"]
    assert list((directory / "runs/mlartifacts/s").rglob("report.html"))
    check_artifacts("sqlite:///mlflow.db", "s", Store.at("runs"))


def test_no_model_is_written_where_mlflow_could_not_load_it():
    for name in ("a%2Fb", "a%20b"):
        with pytest.raises(InputError, match=f"--storage /x/{name}/runs, because of the %2"):
            check_models("sqlite:///mlflow.db", Store(f"/x/{name}/runs"))
    for uri, root in (("sqlite:///mlflow.db", "/x/100%/a b?c"), ("http://host", "/x/a%2Fb"), ("sqlite:///mlflow.db", "s3://b/a%2Fb")):
        check_models(uri, Store(root))
