"""Addresses of MLflow's pages."""

import pytest

from trainables.study.mlflow_pages import run_page, trials_page, trials_path, view_key
from trainables.study.outcome import MLflowRefs


@pytest.mark.parametrize(
    ("uri", "home"),
    [
        ("sqlite:///mlflow.db", "http://127.0.0.1:5000"), ("postgresql://me:secret@host/db", "http://127.0.0.1:5000"),
        ("http://host:5000", "http://host:5000"), ("https://me:secret@host/mlflow/", "https://host/mlflow"),
    ],
)  # fmt: skip
def test_pages_are_those_of_training_on_the_server_or_on_a_local_one_and_contain_no_login(uri, home):
    refs = MLflowRefs(uri, "3")
    assert run_page(refs, "ab12") == f"{home}/#/experiments/3/runs/ab12?workflowType=machine_learning"
    page = f"{home}/#/experiments/3/runs?viewStateShareKey={view_key('s-1')}&workflowType=machine_learning"
    assert trials_page(refs, "s-1") == page == f"{home}/{trials_path('3', 's-1')}"
    assert trials_page(refs, "s-1", charts=True) == page + "&compareRunsMode=CHART"


def test_the_key_of_a_view_is_legal_in_an_address_and_a_tag_whatever_the_name_of_the_study():
    keys = {view_key(name) for name in ("s-1", "s-2", "a b&c=d#é%", "s-1")}
    assert len(keys) == 3 and all(len(key) == 32 and key.isalnum() and key.isascii() for key in keys)
