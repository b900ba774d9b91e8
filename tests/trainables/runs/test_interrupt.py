"""Tests of an interrupted study. SIGTERM is tested on a server, in tests/infra/test_tokens.py."""

import json
import signal
import subprocess
import time

import pytest
from files import existing
from study_runs import CRL, ROOT, command, start, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def test_ctrl_c_prints_the_resume_command_and_one_object_and_exits_with_130(tmp_path):
    driver = start(tmp_path, "--set", "epochs=300", "--trials", "9", "--json", stderr=subprocess.PIPE)
    wait_until(lambda: existing(tmp_path / "runs", "*/trials/*/params.json"), driver)
    time.sleep(2)
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate(timeout=200)
    assert driver.returncode == 130 and out.count("\n") == 1, out + err
    end = json.loads(out)
    (folder,) = (tmp_path / "runs").glob("crl_tradeoff-*")
    assert end["name"] == folder.name and end["exit_code"] == 130 and end["error"] == "interrupted"
    words = " ".join(command(ROOT / CRL, "--resume", folder.name))
    assert end["resume"].startswith(words) and end["resume"] in err
    assert end["mlflow_run"] and isinstance(end["front"], list) and end["trials"]["planned"] == 9 and "Traceback" not in err
