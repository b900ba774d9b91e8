"""The facts of a study and the commands that continue it."""

from dataclasses import replace

import numpy as np
from command_lines import plan, site

from core.data import Parts
from trainables.terminal.provenance import facts, parts_fact, resume_command, study_facts


def test_facts_and_commands_contain_no_password_of_a_uri():
    uri = "postgresql://me:secret@127.0.0.1:9/db"
    command = facts(["x.py", "--tracking-uri", uri])["command"]
    resume = resume_command(plan(), site("--tracking-uri", uri))
    assert "127.0.0.1:9" in command and "secret" not in command
    assert "127.0.0.1:9" in resume and "secret" not in resume


def test_the_facts_of_a_study_contain_the_settings_and_attacks_of_the_confirmation_step():
    confirmed = replace(plan(), replicates=3, confirm={"judge.part": "test", "judge.suite": "standard"})
    recorded = study_facts(confirmed, ["x.py"])
    assert recorded["confirmation"] == "3 replicates per point on average, judge.part=test, judge.suite=standard"
    assert recorded["confirmation attacks"] == "fgsm, pgd, pgd_more, pgd_cw, apgd_ce, apgd_t, square"
    assert not {"confirmation", "confirmation attacks"} & study_facts(replace(confirmed, replicates=0), ["x.py"]).keys()


def test_the_sizes_of_all_parts_are_a_fact():
    rows = np.arange(2000)
    parts = Parts(rows[:1200], rows[1200:1500], rows[1500:1600], rows[1600:])
    assert parts_fact(parts) == "1,200 members; non-members: 300 in val, 100 in test; 400 for shadow models"
    chosen = replace(parts, val=rows[1250:1500], selection=rows[1200:1250])
    assert "250 in val, 100 in test; 50 to choose the epoch; 400 for" in parts_fact(chosen)
