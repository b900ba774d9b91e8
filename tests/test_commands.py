"""Tests of the commands in the documentation: each one parses, and is run by a test or states what it needs.

A command is a line of a fenced or indented block that starts with one of `STARTS`. It is run by a test if `RUN_BY` names one for
its script that contains each of its options. Otherwise a comment in its block, at its end or in the line above it, states what it
needs (`MARKS`). All commands of docs/tutorial.md are run by tests/test_tutorial.py.
"""

import argparse
import ast
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "studies/RESULTS.md"]
PAGES += sorted(str(path.relative_to(ROOT)) for folder in ("docs", "infra") for path in (ROOT / folder).rglob("*.md"))
SCRIPTS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "studies").rglob("*.py"))
STARTS = r"(?:python3? -m venv|(?:\S*/)?python3? (?:studies|tests)/|mlflow |\.venv/bin/|bash |infra/)"
MARKS = r"needs (?:the photographs|MNIST as photographs|CIFAR-100|a cluster|GPUs)|(?:about \d+|takes) minutes|takes hours"

PAPERS = ("crl", "bpfc", "gat", "sparsity", "inversion")
STUDY_TESTS = (
    *(f"tests/trainables/runs/test_{name}.py" for name in (
        "whole_study", "interrupt", "conditional_study", "constraints", "seeds", "early_stopping",
    )),
    "tests/trainables/commands/test_output.py", "tests/trainables/commands/test_dry_run.py",
    "tests/trainables/commands/test_study.py", "tests/helpers/study_runs.py", "docs/tutorial.md",
)  # fmt: skip
RUN_BY = {
    "studies/crl_tradeoff.py": STUDY_TESTS,
    **{f"studies/{name}.py": ("tests/studies/test_studies.py",)
       for name in ("bpfc_tradeoff", "gat_tradeoff", "sparsity_tradeoff", "inversion_tradeoff", "all_knobs")},
    **{f"studies/papers/{name}.py": ("tests/studies/papers/test_items.py",) for name in PAPERS},
    "studies/rejudge.py": ("tests/studies/test_rejudge.py",),
    "studies/audit.py": ("tests/studies/test_audit.py",),
    "studies/compare.py": ("docs/tutorial.md",),
    "studies/pick.py": ("tests/trainables/commands/test_pick.py",),
    "studies/recipes_table.py": ("tests/studies/test_recipes_table.py",),
    "mlflow": ("tests/test_tutorial.py",),
    "pytest": (".ci/run", "README.md"),
    "pip": (".ci/run", "README.md"),
    ".ci/run": (".ci/run",),  # by CI itself
}  # fmt: skip


class Command(NamedTuple):
    """A command: its page, its words, and the comments that belong to it."""

    page: str
    words: list[str]
    remark: str

    @property
    def script(self) -> str:
        """Path of the script below the root, or name of the program."""
        first, *rest = self.words
        if rest and rest[0].endswith(".py"):
            return rest[0]
        if rest[:2] == ["-m", "venv"]:
            return "pip"
        return Path(first).name if first != "bash" else rest[0]

    @property
    def options(self) -> list[str]:
        return [word for word in self.words if re.fullmatch(r"--[a-z-]+", word)]

    def __str__(self) -> str:
        return f"{self.page}: {shlex.join(self.words)}"


def blocks(page: str) -> list[str]:
    """Fenced and indented blocks of a page, or of the docstring of a script."""
    text = (ROOT / page).read_text()
    if page.endswith(".py"):
        text = ast.get_docstring(ast.parse(text)) or ""
    fenced = [block for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S) if kind in ("", "sh", "bash")]
    rest = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return fenced + [re.sub(r"^    ", "", block, flags=re.M) for block in re.findall(r"(?:^    .*\n?)+", rest, re.M)]


def commands() -> list[Command]:
    """All commands, in order."""
    found = []
    for page in (*PAGES, *SCRIPTS):
        for block in blocks(page):
            above = ""
            for line in re.sub(r"\\\n\s*", "", block).splitlines():
                if line.startswith("#"):
                    above = line
                elif re.match(STARTS, line):
                    bare, remark = re.split(r"\s+# ", f"{line} # ", maxsplit=1)
                    parts = [re.split(r" [>|] ", part)[0] for part in bare.split(" && ")]
                    found += [Command(page, shlex.split(part), f"{above} {remark}") for part in parts if part.strip()]
                    above = ""
                else:
                    above = ""
    return found


COMMANDS = commands()


class Parsed(BaseException):
    """Raised once the options of a command are parsed."""


def parsed(command: Command, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """The arguments as the script itself parses them; the script is run only up to this point."""
    words = command.words[command.words.index(command.script) + 1 :]
    real, found = argparse.ArgumentParser.parse_args, []

    def parse(self: argparse.ArgumentParser, args=None, namespace=None):
        found.append(real(self, args, namespace))
        raise Parsed

    monkeypatch.setattr(sys, "argv", [command.script, *words])
    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        with pytest.raises(Parsed):
            runpy.run_path(str(ROOT / command.script), run_name="__main__")
    return found[0]


def test_every_command_on_a_page_is_found():
    pages = {command.page for command in COMMANDS}
    assert {"README.md", "CONTRIBUTING.md", "infra/README.md", "studies/RESULTS.md", "docs/tutorial.md"} <= pages
    assert {page for page in SCRIPTS if page != "studies/__init__.py"} <= pages
    for page in (*PAGES, *SCRIPTS):
        text = re.sub(r"^```text\n.*?^```", "", (ROOT / page).read_text(), flags=re.M | re.S)  # output of commands
        text = re.sub(r"\\\n\s*", " ", text)
        shown = [line for line in text.splitlines() if re.match(r"\s*(?:\S*/)?python3? (?:studies|tests)/\S+\.py", line)]
        assert len(shown) <= len([c for c in COMMANDS if c.page == page]), f"{page}: a command is outside of a block"


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.script.endswith(".py")], ids=str)
def test_its_options_parse_with_the_scripts_own_parser(command, monkeypatch):
    args = parsed(command, monkeypatch)
    if command.script in (name for name, tests in RUN_BY.items() if tests == STUDY_TESTS or "test_studies" in tests[0]):
        from trainables.commands.study import plan_of

        study = runpy.run_path(str(ROOT / command.script))["STUDY"]
        if not args.resume:
            plan_of(study, args)  # settings and knobs exist and have legal values
    if command.script.startswith("studies/papers/") and args.item:
        from trainables.commands.arguments import assignments
        from trainables.papers.networks import networks_of

        paper = runpy.run_path(str(ROOT / command.script))["PAPER"]
        items = {item.name: item for item in (*paper.items, *paper.listings)}
        if presets := getattr(items[args.item], "presets", None):
            networks_of(items[args.item], presets[args.preset or "dev"], None, assignments(args.set, "--set"), args.rows, 1)
    if command.script == "studies/recipes_table.py":
        from studies.recipes_table import jobs_of

        assert jobs_of(args)


def test_options_of_mlflow_parse_with_its_own_parser():
    from click import Context
    from mlflow.cli import cli as program

    shown = [command for command in COMMANDS if command.script == "mlflow"]
    assert shown
    for command in shown:
        found = program.get_command(Context(program), command.words[1])
        assert found, command
        found.make_context(command.words[1], command.words[2:])


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.page != "docs/tutorial.md"], ids=str)
def test_it_is_run_by_a_test_or_states_what_it_needs(command):
    if re.search(MARKS, command.remark):
        return
    assert command.script in RUN_BY, f"{command}: no test runs it; name one in RUN_BY, or state what it needs: {MARKS}"
    texts = [(ROOT / test).read_text() for test in RUN_BY[command.script]]
    text = "\n".join(text for text in texts if Path(command.script).stem in text)
    assert text, f"{command}: {RUN_BY[command.script]} do not run it"
    untested = [option for option in command.options if f'"{option}"' not in text and f"{option} " not in text]
    assert not untested, f"{command}: no test that runs it has {', '.join(untested)}; state what it needs: {MARKS}"
    assert "--dataset" not in command.options, f"{command}: it needs images that tests do not have; state this"


def test_the_tests_that_run_commands_need_no_gpu():
    for test in {test for tests in RUN_BY.values() for test in tests}:
        text = (ROOT / test).read_text()
        assert "mark.gpu" not in text and "mark.slow" not in text, test


def test_a_command_is_found_with_its_words_and_its_remark(monkeypatch, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\n# needs a cluster\npython studies/x.py --a 1 \\\n    --b > file\n```\n"
        "```text\npython studies/no.py\n```\na paragraph\n\n    mlflow ui  # hm\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "PAGES", [str(page)])
    monkeypatch.setattr(sys.modules[__name__], "SCRIPTS", [])
    one, two = commands()
    assert one.words == ["python", "studies/x.py", "--a", "1", "--b"] and one.options == ["--a", "--b"]
    assert re.search(MARKS, one.remark) and not re.search(MARKS, two.remark) and two.script == "mlflow"
