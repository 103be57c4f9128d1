"""Tables in files: the same numbers, and memory of a block."""

import errno
import os

import numpy as np
import pytest

from mca_jax.core import host_tables as scratch
from mca_jax.core.errors import InputError
from mca_jax.core.host_tables import allocate_rows, release, row_blocks, sum_picked


@pytest.fixture
def small_memory(monkeypatch):
    """Tables beyond 1 KB go to files, and are read 1 KB at a time."""
    monkeypatch.setattr(scratch, "_IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(scratch, "_BLOCK_BYTES", 1000)


def resident_bytes(table):
    """Memory that a mapped file takes, as the system counts it."""
    address = table.__array_interface__["data"][0]
    with open("/proc/self/smaps") as maps:
        for line in maps:
            head = line.split()[0]
            if "-" in head and not head.endswith(":"):
                low, high = (int(part, 16) for part in head.split("-"))
                inside = low <= address < high
            elif line.startswith("Rss:") and inside:
                return int(line.split()[1]) * 1024
    raise LookupError("no such map")


def test_only_large_tables_go_to_files(small_memory):
    assert not isinstance(allocate_rows((10, 25)), np.memmap)
    table = allocate_rows((10, 26))
    assert isinstance(table, np.memmap)
    assert table.dtype == np.float32
    assert not table.any()
    assert allocate_rows((500, 1), np.int32).dtype == np.int32


def test_what_is_given_back_stays_readable(small_memory):
    table = allocate_rows((1000, 8))
    table[:] = np.arange(8000).reshape(1000, 8)
    part = np.asarray(table)[3:5]
    release(part)
    np.testing.assert_array_equal(part, np.arange(24, 40).reshape(2, 8))
    in_memory = np.ones(3)
    release(in_memory)
    assert in_memory.all()


def test_changes_of_a_private_map_are_not_lost(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros(3))
    private = np.load(tmp_path / "rows.npy", mmap_mode="c")
    private[:] = 1.0
    release(private[1:])
    assert private.all()
    assert not np.load(tmp_path / "rows.npy", mmap_mode="r").any()


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps"), reason="needs Linux")
def test_a_reader_holds_a_block_at_most(monkeypatch):
    monkeypatch.setattr(scratch, "_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(scratch, "_BLOCK_BYTES", 2**20)
    table = allocate_rows((4096, 1024))
    table[:] = 1.0
    assert resident_bytes(table) == table.nbytes == 2**24
    total = 0.0
    for rows in row_blocks(table):
        total += float(table[rows].sum())
        # The system maps some pages around those that are asked for.
        assert resident_bytes(table) <= (2**24 if rows.start == 0 else 2**22)
    assert total == table.size
    assert resident_bytes(table) == 0


def test_blocks_are_all_rows_in_order(small_memory):
    for shape in ((101, 3), (7,), (3, 1000), (0, 4)):
        table = np.zeros(shape, np.float32)
        rows = [
            row for block in row_blocks(table) for row in range(*block.indices(999))
        ]
        assert rows == list(range(len(table)))
    assert len(list(row_blocks(np.zeros((100, 10), np.float32)))) == 4


def test_a_full_disk_is_said(small_memory, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    with pytest.raises(InputError, match=r"8\.0 GB .*No space left.*TMPDIR"):
        allocate_rows((2_000_000, 1000))


def test_a_file_system_that_reserves_nothing_will_do(small_memory, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse, raising=False)
    table = allocate_rows((100, 10))
    table[-1] = 2.0
    assert table.sum() == 20.0


def test_picked_rows_are_added_up(small_memory):
    table = allocate_rows((300, 2))
    table[:] = np.arange(600).reshape(300, 2)
    assert isinstance(table, np.memmap)
    found = sum_picked(table, np.array([[0, 299], [1, 1]]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[598, 600], [4, 6]])
