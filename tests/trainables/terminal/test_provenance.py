"""The facts of a study and the commands that continue it."""

from command_lines import plan, site

from trainables.terminal.provenance import facts, resume_command


def test_facts_and_commands_contain_no_password_of_a_uri():
    uri = "postgresql://me:secret@127.0.0.1:9/db"
    command = facts(["x.py", "--tracking-uri", uri])["command"]
    resume = resume_command(plan(), site("--tracking-uri", uri))
    assert "127.0.0.1:9" in command and "secret" not in command
    assert "127.0.0.1:9" in resume and "secret" not in resume
