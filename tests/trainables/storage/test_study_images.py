"""The images of a stored study: they are recognised by their content, wherever they are."""

from dataclasses import replace
from pathlib import Path

import finished
import parquet_studies
import pytest
import torch
from parquet_studies import CHANGES

from core import data
from core.data import Images
from core.errors import InputError
from trainables.storage.study_images import study_images
from trainables.study.data_identity import DataIdentity
from trainables.study.site import Site


@pytest.fixture
def folder(tmp_path) -> Path:
    parquet_studies.write(tmp_path / "set", *parquet_studies.images())
    return tmp_path / "set"


@pytest.mark.parametrize("change", CHANGES)
def test_other_images_are_refused_in_words(folder, change):
    plan, (make, words) = parquet_studies.plan(folder), CHANGES[change]
    assert torch.equal(study_images(plan, Site()).x, data.load(plan.config.dataset).x)
    parquet_studies.write(folder, *make(*parquet_studies.images()))
    with pytest.raises(InputError) as error_info:
        study_images(plan, Site())
    message = str(error_info.value)
    assert f"parquet:{folder} has changed since s-1 started: {words}" in message and "or start a new study" in message


def test_files_that_were_written_again_with_the_same_images_are_accepted(folder):
    plan = parquet_studies.plan(folder)
    parquet_studies.write(folder, *parquet_studies.images())
    assert study_images(plan, Site())


def test_a_data_set_that_was_moved_is_found_in_the_data_folder_if_its_images_are_the_same(folder, tmp_path):
    plan = parquet_studies.plan(folder)
    folder.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=r"no file .*set/train\.parquet.*give the folder with its files by --data-dir"):
        study_images(plan, Site())
    assert study_images(plan, Site(data_dir=str(tmp_path / "moved")))
    parquet_studies.write(tmp_path / "moved", *parquet_studies.one_pixel(*parquet_studies.images()))
    with pytest.raises(InputError, match="moved has changed since s-1 started: other pixels"):
        study_images(plan, Site(data_dir=str(tmp_path / "moved")))


def test_a_copy_of_the_original_images_replaces_changed_ones(folder, tmp_path):
    plan = parquet_studies.plan(folder)
    parquet_studies.write(tmp_path / "copy", *parquet_studies.images())
    parquet_studies.write(folder, *parquet_studies.one_pixel(*parquet_studies.images()))
    assert study_images(plan, Site(data_dir=str(tmp_path / "copy")))


def test_a_named_data_set_that_has_changed_is_refused():
    """For example, because a new version of a library delivers other images."""
    plan = finished.plan()
    assert study_images(plan, Site())
    digits = data.load("digits")
    changed = DataIdentity.of(Images(digits.x.flip(3), digits.y, digits.classes))
    with pytest.raises(InputError, match="digits has changed since s-1 started: other pixels; restore the data in --data-dir"):
        study_images(replace(plan, data=changed), Site())


def test_the_identity_depends_on_content_only_and_has_no_differences_from_itself():
    digits = data.load("digits")
    copy = Images(digits.x.clone(memory_format=torch.channels_last), digits.y.clone(), digits.classes)
    identity = DataIdentity.of(digits)
    assert identity == DataIdentity.of(copy) and not identity.differences(DataIdentity.of(copy))
    assert DataIdentity.of_json(vars(identity)) == identity
    both = DataIdentity.of(Images(digits.x.flip(0), digits.y.flip(0), digits.classes))
    assert identity.differences(both) == "other pixels and other labels" and both.fingerprint != identity.fingerprint
