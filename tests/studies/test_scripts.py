"""The scripts of studies and commands: docstrings, names and plans."""

import ast
import importlib
from pathlib import Path

import pytest
from command_lines import plan

from core.study import Study
from studies import crl_tradeoff

SCRIPTS = sorted(Path(crl_tradeoff.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_documents_how_to_run_it(path):
    tree = ast.parse(path.read_text())
    if path.stem == "__init__":
        return
    doc = ast.get_docstring(tree) or ""
    assert f"python studies/{path.name}" in doc and doc.splitlines()[0].endswith(("?", "."))


@pytest.mark.parametrize("path", [p for p in SCRIPTS if "STUDY = " in p.read_text()], ids=lambda path: path.stem)
def test_a_study_has_the_name_of_its_file_and_plans_for_all_presets(path):
    study = importlib.import_module(f"studies.{path.stem}").STUDY
    assert isinstance(study, Study) and study.name == path.stem and study.question.endswith("?")
    assert path.read_text().rstrip().endswith('if __name__ == "__main__":\n    main(STUDY)')
    for preset in study.presets:
        planned = plan("--preset", preset, study=study)
        assert planned.trials > len(planned.baselines) and planned.space
