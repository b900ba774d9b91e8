"""The provenance of a study: the facts that a reader needs to repeat it, and the commands that continue it."""

import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version

import torch

from core.attacks.named import attacks_of
from core.attacks.suite import suite_attacks
from core.config import TrialConfig
from core.data import Parts
from core.redaction import redacted_command
from trainables.study.options import all_options, options_of
from trainables.study.outcome import TIMESTAMP_FORMAT
from trainables.study.plan import Plan
from trainables.study.site import REPOSITORY, Site
from trainables.study.text import counted
from trainables.terminal.source import NAME, own_commit, own_version

PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow")
"""Packages whose versions are recorded."""


def facts(command: Sequence[str]) -> dict[str, str]:
    """Command, commit, versions, hardware and start time of this run, in display order."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "command": redacted_command(["python", *command]),
        "commit": own_commit(REPOSITORY),
        "versions": ", ".join([f"{NAME} {own_version(REPOSITORY)}", *(f"{p} {version(p)}" for p in PACKAGES)]),
        "hardware": f"{os.cpu_count()} CPU cores ({platform.machine()})" + (f", {', '.join(gpus)}" if gpus else ""),
        "started": time.strftime(TIMESTAMP_FORMAT),
    }


def study_facts(plan: Plan, command: Sequence[str]) -> dict[str, str]:
    """The facts of a study's first driver: those of its command, its settings and its search."""
    defaults = TrialConfig().params()
    settings = {name: value for name, value in plan.config.params().items() if defaults.get(name) != value}
    search = [counted(plan.trials, "trial"), f"sampler {plan.sampler}", f"seed {plan.seed}"]
    if plan.seeds_per_trial > 1:
        search.append(f"means over {plan.seeds_per_trial} seeds")
    if plan.rungs:
        search.append(f"early stopping after epochs {', '.join(map(str, plan.rungs))}")
    if plan.require:
        search.append(f"required {' and '.join(map(str, plan.require))}")
    recorded = facts(command) | ({"recipe": recipe_fact(plan)} if plan.recipe else {})
    recorded |= {
        "settings": ", ".join(f"{name}={value}" for name, value in settings.items()),
        "search": ", ".join(search),
    }
    if not plan.replicates:
        return recorded
    judge, budget = plan.config.set(plan.confirm).judge, f"{counted(plan.replicates, 'replicate')} per point on average"
    return recorded | {
        "confirmation": ", ".join([budget, *(f"{name}={value}" for name, value in plan.confirm.items())]),
        "confirmation attacks": ", ".join(suite_attacks(judge.suite, judge.steps, judge.restarts) | attacks_of(judge.attacks)),
    }


def recipe_fact(plan: Plan) -> str:
    """The recipe of a plan, with what the study leaves out because it does not fit."""
    return "; ".join([plan.recipe, *(f"left out: {line}" for line in plan.left_out)])


def parts_fact(parts: Parts) -> str:
    """The sizes of the parts of a pool."""
    choosing = f"; {len(parts.selection):,} to choose the epoch" if len(parts.selection) else ""
    return (
        f"{len(parts.members):,} members; non-members: {len(parts.val):,} in val, {len(parts.test):,} in test{choosing}; "
        f"{len(parts.shadow):,} for shadow models"
    )


def resumed_facts(known: dict[str, str], command: Sequence[str]) -> dict[str, str]:
    """The facts of a study after it has been resumed once more."""
    now = facts(command)
    earlier = f"{known['resumed']}; " if "resumed" in known else ""
    changed = f" with {now['versions']}" if known.get("versions") != now["versions"] else ""
    return known | {"resumed": f"{earlier}{now['started']} at commit {now['commit']}{changed}"}


def resume_command(plan: Plan, site: Site, script: str = "") -> str:
    """The command that resumes a study, with the options that started it; `script` is the study's script if it is known."""
    script = script if script.endswith(".py") else f"studies/{plan.study}.py"
    requested = [word for o in all_options(type(plan)) for word in o.words(plan.requested.get(o.name, o.default))]
    return command_line(script, ["--resume", plan.name, *requested], site)


def command_line(script: str, words: Sequence[str], site: Site) -> str:
    """A command that runs one of our scripts with these words and the options of `site` that differ from their defaults."""
    where = [word for name, own in options_of(type(site)).items() for o in own for word in o.words(getattr(site, name))]
    return redacted_command([sys.executable, script, *words, *where])
