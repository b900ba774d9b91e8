"""Free memory, of the machine and in cgroups, and its text."""

import pytest

from core import memory


def test_free_memory_is_at_most_what_the_machine_has():
    pages = memory.os.sysconf("SC_PHYS_PAGES") * memory.os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory.available() <= pages


@pytest.mark.parametrize("limit, left", [("max\n", float("inf")), ("5000\n", 5000 - 3000 + 700), ("1000\n", 0)])
def test_a_cgroup_has_what_is_below_its_limit_without_the_unused_page_cache(tmp_path, limit, left):
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 2000\ninactive_file 700\nactive_file 300\n")
    assert memory._left_in(tmp_path) == left


def test_a_cgroup_without_accounting_has_no_limit(tmp_path):
    assert memory._left_in(tmp_path) == memory._left_in(tmp_path / "none") == float("inf")


@pytest.mark.parametrize("count, text", [(0, "0 GiB"), (1 << 20, "0.00098 GiB"), (3 << 29, "1.5 GiB"), (1 << 40, "1024.0 GiB")])
def test_bytes_are_shown_in_gib(count, text):
    assert memory.gib(count) == text
