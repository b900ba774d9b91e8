"""Tests of jobs that cannot start, because another job has the resources or because Ray's workers do not start."""

import threading

import pytest
import ray
from environments import environment
from in_process import workspace
from study_runs import ROOT, kill, start

from core import data
from trainables.execution import session, tasks
from trainables.execution.resources import to_shared
from trainables.execution.tasks import Executor
from trainables.study.results import TrainingResult

SCRIPT = """
import os, sys
from studies.crl_tradeoff import STUDY
from trainables.commands.study import main
from trainables.execution import session

session.WAITING_SECONDS = 4.0
if __name__ == "__main__":
    main(STUDY)
"""
BROKEN = 'import sys\nif any("default_worker" in word for word in sys.orig_argv):\n    sys.exit(1)\n'
"""A sitecustomize.py that ends each of Ray's worker processes."""


@pytest.mark.ray
def test_a_job_that_waits_for_another_one_says_so_and_runs_when_that_one_has_ended(local_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "WAITING_SECONDS", 1.0)
    monkeypatch.setattr(tasks, "POLL_SECONDS", 0.5)
    cpus = int(ray.cluster_resources()["CPU"])
    other = ray.remote(num_cpus=cpus)(type("Other", (), {"ready": lambda self: None})).remote()
    ray.get(other.ready.remote())
    lines: list[str] = []

    def done(images, workspace) -> TrainingResult:  # Ray's workers cannot import this file, so they receive local functions
        return TrainingResult(metrics={"a": 1.0})

    def warn(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            ray.kill(other)

    space = workspace(tmp_path)
    executor = Executor(to_shared(data.load("digits")), space, lambda: 1, space.share, lambda: 1, warn=warn)
    assert executor.map(done, {(1, 2): {}}, TrainingResult)[1, 2].metrics == {"a": 1.0}
    assert len(lines) >= 2 and "waiting for " in lines[0] and "1 submitted, none is running" in lines[0]
    assert f"each needs 1 CPU (0 of {cpus} free)" in lines[0] and "ray status" in lines[0] and "/logs (raylet.out" in lines[0]


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_study_whose_workers_do_not_start_says_where_to_look(tmp_path):
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(BROKEN)
    script = tmp_path / "study.py"
    script.write_text(SCRIPT)
    env = environment(PYTHONPATH=f"{tmp_path}/site:{ROOT}")
    driver = start(tmp_path, "--trials", "5", "--quiet", script=script, env=env)
    assert driver.stdout
    timer = threading.Timer(200, driver.kill)
    timer.start()
    line = next((line for line in driver.stdout if line.startswith("still waiting: ")), "")
    timer.cancel()
    kill(driver)
    assert "Ray's worker processes do not start" in line and "/logs (raylet.out" in line
