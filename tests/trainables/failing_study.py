"""A study of which some trials cannot succeed: one diverges, others do not fit into any memory. See test_failures.py."""

from core.config import Preset, Study, TrialConfig
from core.space import Choice, LogUniform
from trainables.cli import main

STUDY = Study(
    name="failing_study",
    question="Does a study survive its trials?",
    presets={"dev": Preset(config=TrialConfig.of({"judge.steps": 3}), trials=7, replicates=0)},
    space=lambda config: {"net.hidden": Choice((16, 2**40)), "optimizer.lr": LogUniform(0.05, 0.1)},
    baselines={"diverges": {"optimizer.lr": 1e38}},
)

if __name__ == "__main__":
    main(STUDY)
