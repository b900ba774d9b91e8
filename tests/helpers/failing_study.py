"""A study with trials that cannot succeed: one diverges, and others do not fit into any memory.

See tests/trainables/execution/test_failed_trials.py.
"""

from core.config import TrialConfig
from core.space import Choice, LogUniform
from core.study import Preset, Study
from trainables.commands.study import main

STUDY = Study(
    name="failing_study",
    question="Does a study survive failed trials?",
    presets={"dev": Preset(config=TrialConfig.of({"judge.steps": 3}), trials=7, replicates=0)},
    space=lambda config: {"net.hidden": Choice((16, 2**40)), "optimizer.lr": LogUniform(0.05, 0.1)},
    baselines={"diverges": {"optimizer.lr": 1e38}},
)

if __name__ == "__main__":
    main(STUDY)
