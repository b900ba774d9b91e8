"""Arrays as .npz files: they keep their names, and nothing that is read is executed."""

import numpy as np
import pytest

from trainables.storage.arrays import of_npz, to_npz


def test_arrays_are_restored_under_their_names():
    names = ("rows", "robust/apgd_ce", "robust_at/0.25", "robust_at/0/25", "100%/a.b%2Ec", "%25")
    arrays = {name: np.arange(3) + i for i, name in enumerate(names)}
    restored = of_npz(to_npz(arrays))
    assert restored.keys() == arrays.keys() and all((restored[name] == array).all() for name, array in arrays.items())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"text", to_npz({"rows": np.arange(100)})[:-40]])
def test_data_that_are_no_complete_npz_file_raise_a_value_error(content):
    with pytest.raises(ValueError):
        of_npz(content)


def test_an_array_of_objects_is_rejected_so_that_no_code_in_it_is_executed():
    with pytest.raises(ValueError):
        of_npz(to_npz({"rows": np.array([print])}))
