"""Tests of the README: its methods table, its commands, its links and its example are correct."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core.config import SLOTS
from core.search_space import ranges

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def methods() -> str:
    """The rows of the methods table."""
    rows = []
    for slot, family in SLOTS.items():
        for name, component in family.items():
            knobs = ", ".join(f"`{slot}.{knob}`" for knob in ranges(component)) or "-"
            rows.append(f"| `{slot}` | `{name}` | {knobs} |")
    return "\n".join(rows)


def test_the_methods_table_lists_every_component_with_its_searched_knobs():
    assert methods() in README, f"README.md needs this table:\n{methods()}"


def test_every_link_and_picture_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links and not [link for link in links if "://" not in link and not (ROOT / link).exists()]


def test_both_commands_do_their_own_setup_and_ci_runs_the_second_word_for_word():
    first, second = re.findall(r"^python3 -m venv \.venv && \.venv/bin/pip install .*$", README, re.M)
    assert first.endswith(".venv/bin/python studies/crl_tradeoff.py")
    script = (ROOT / ".ci/run").read_text()
    (pick,) = re.findall(r"command=\$\((sed .*) README\.md\)", script)
    picked = subprocess.run(["bash", "-c", f"{pick} README.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert picked.strip() == second


def test_every_test_is_in_one_of_the_commands_of_ci_unless_it_is_gpu_or_slow():
    """The expressions after -m are evaluated for every set of markers."""
    first, second = (re.search(r'pytest -m "(.*?)"', text) for text in (README, (ROOT / ".ci/run").read_text()))
    assert first and second
    names = re.findall(r'^    "(\w+): ', (ROOT / "pyproject.toml").read_text(), re.M)
    assert {"ray", "browser", "real", "thorough", "faults", "tutorial", "gpu", "slow"} == set(names)
    for given in itertools.product([False, True], repeat=len(names)):
        markers = dict(zip(names, given, strict=True))
        runs = [eval(expression[1], {}, markers) for expression in (first, second)]
        assert sum(runs) == (not markers["gpu"] and not markers["slow"]), markers


@pytest.mark.thorough
def test_the_example_without_ray_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_option_in_the_readme_exists():
    from studies.crl_tradeoff import STUDY
    from trainables.commands.study import parser

    known = {option for action in parser(STUDY)._actions for option in action.option_strings}
    study_lines = [line for line in README.splitlines() if "studies/crl_tradeoff.py" in line]
    assert {s for line in study_lines for s in re.findall(r"(?<= )--[a-z-]+", line)} <= known
