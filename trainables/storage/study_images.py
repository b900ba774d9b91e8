"""Loading the images of a stored study, which must be those that it started with."""

from pathlib import Path

from core import data
from core.data import PARQUET, Images
from core.errors import InputError
from trainables.study.data_identity import DataIdentity
from trainables.study.plan import Plan
from trainables.study.site import Site


def study_images(plan: Plan, site: Site) -> Images:
    """Load the images of a study and check that they are the same as when it started; a new study has no such record yet.

    A parquet data set that was moved is found in `--data-dir`: its content identifies it.

    Raises:
        InputError: the images cannot be loaded, or they are others.
    """
    config = plan.config
    if plan.data is None:
        return data.load(config.dataset, site.data_dir, config.pool)
    moved = Path(site.data_dir).expanduser()
    places = [config.dataset]
    if config.dataset.startswith(PARQUET) and (moved / "train.parquet").is_file():
        places.append(f"{PARQUET}{moved.absolute()}")
    problems = []
    for dataset in places:
        try:
            images = data.load(dataset, site.data_dir, config.pool)
        except InputError as error:
            problems.append(str(error))
            continue
        changed = plan.data.differences(DataIdentity.of(images))
        if not changed:
            return images
        problems.append(f"{dataset} has changed since {plan.name} started: {changed}")
    hint = ", or give the folder with its files by --data-dir" if config.dataset.startswith(PARQUET) else " in --data-dir"
    raise InputError(f"{'; '.join(dict.fromkeys(problems))}; restore the data{hint}, or start a new study")
