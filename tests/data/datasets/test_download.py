"""Downloads from a server of the test's own: resumed, broken, wrong, unreachable."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from tiny_datasets import pack, pin, write_cifar10

from mca_jax.core.errors import InputError
from mca_jax.data.datasets import DATASETS, default_data_dir, load_dataset
from mca_jax.data.datasets.download import Remote, check_file, fetch

CONTENT = np.random.default_rng(0).bytes(3_000_000)


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.content``; notes what was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, content = self.server, self.server.content
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if self.path != "/set.bin":
            self.send_error(404)
            return
        start = 0
        if asked and server.ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = len(content) if server.cut is None else server.cut
        self.wfile.write(content[start:stop])
        if server.interrupted:
            self.wfile.flush()
            os.kill(os.getpid(), signal.SIGINT)
        if stop < len(content):
            self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.asked, server.ranges = CONTENT, [], True
        server.cut, server.interrupted = None, False
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def remote(server, content=CONTENT, name="set.bin"):
    url = f"http://127.0.0.1:{server.server_address[1]}/{name}"
    return Remote(url, name, "sha256", hashlib.sha256(content).hexdigest())


def test_a_whole_file(server, tmp_path):
    path = fetch(remote(server), tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert [each.name for each in path.parent.iterdir()] == ["set.bin"]
    assert server.asked == [None]


def test_a_broken_connection_is_gone_on_with(server, tmp_path):
    server.cut = 2_000_000
    with pytest.raises(
        InputError, match=r"connection broke \(2,000,000 bytes are kept"
    ):
        fetch(remote(server), tmp_path)
    assert not (tmp_path / "set.bin").exists()
    server.cut = None
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=2000000-"]
    assert [each.name for each in tmp_path.iterdir()] == ["set.bin"]


# The signal may come between the opening of a file and the block that closes it.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_download_is_gone_on_with(server, tmp_path):
    server.cut, server.interrupted = 2_000_000, True
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:1_000])
    with pytest.raises(KeyboardInterrupt) as caught:
        fetch(remote(server), tmp_path)
    kept = (tmp_path / "set.bin.part").stat().st_size
    assert caught.value.__notes__ == [
        f"{kept:,} bytes of set.bin are kept in {tmp_path}"
    ]
    server.cut, server.interrupted = None, False
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_server_without_ranges_sends_all_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "set.bin.part").write_bytes(CONTENT[:1_000])
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_nothing_but_the_name_was_missing(server, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(CONTENT)
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(InputError) as caught:
        fetch(remote(server, b"another"), tmp_path)
    wanted, found = (hashlib.sha256(c).hexdigest() for c in (b"another", CONTENT))
    for word in (wanted, found, "3,000,000 bytes", "set.bin"):
        assert word in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_beginning_does_not_stick(server, tmp_path):
    (tmp_path / "set.bin.part").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="is not the published"):
        fetch(remote(server), tmp_path)
    assert fetch(remote(server), tmp_path).read_bytes() == CONTENT


def test_a_file_that_is_gone_from_the_server(server, tmp_path):
    with pytest.raises(InputError, match=r"answers 404 .*--data_dir"):
        fetch(remote(server, name="gone.bin"), tmp_path)


def test_a_closed_network(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        # Bound but not listening: connections are refused.
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/set.bin"
        with pytest.raises(InputError) as caught:
            fetch(Remote(url, "set.bin", "md5", "0" * 32), tmp_path)
    message = str(caught.value)
    for word in (url, "set.bin (md5 000", str(tmp_path), "--data_dir"):
        assert word in message
    assert "\n" not in message


def test_a_full_or_closed_disk(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="Can't write .*file"):
        fetch(remote(server), tmp_path / "file")


def test_check_file(tmp_path):
    path = tmp_path / "set.bin"
    path.write_bytes(b"abc")
    check_file(path, Remote("", "set.bin", "md5", "900150983cd24fb0d6963f7d28e17f72"))
    with pytest.raises(InputError, match="expected md5 0+, found 900150983cd2"):
        check_file(path, Remote("", "set.bin", "md5", "0" * 32))
    with pytest.raises(InputError, match="Can't read"):
        check_file(tmp_path / "none", Remote("", "set.bin", "md5", "0" * 32))


def test_a_named_set_is_downloaded_unpacked_and_then_used(
    server, tmp_path, monkeypatch
):
    truth = write_cifar10(tmp_path / "made")
    archive = pack(tmp_path / "made" / "cifar-10-batches-bin", tmp_path / "set.bin")
    server.content = archive.read_bytes()
    pin(monkeypatch, "cifar10", archive, splits={"train": 20, "test": 4})
    served = DATASETS["cifar10"].remote._replace(url=remote(server).url)
    pin(monkeypatch, "cifar10", archive, remote=served, splits={"train": 20, "test": 4})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        dataset = load_dataset("cifar10")
        np.testing.assert_array_equal(dataset.read_labels(), truth.labels["train"])
    assert len(server.asked) == 1
    unpacked = default_data_dir() / "cifar-10-batches-bin"
    assert unpacked.is_relative_to(tmp_path / "cache")
    assert (unpacked / "data_batch_1.bin").is_file()


def test_an_archive_with_another_checksum_is_not_unpacked(tmp_path):
    write_cifar10(tmp_path / "made")
    name = DATASETS["cifar10"].remote.name
    pack(tmp_path / "made" / "cifar-10-batches-bin", tmp_path / name)
    with pytest.raises(
        InputError, match="is not the published .*expected sha256 c4a38c"
    ):
        load_dataset("cifar10", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"made", name}


def test_a_path_out_of_a_pinned_archive(tmp_path, monkeypatch):
    import tarfile

    write_cifar10(tmp_path / "made")
    archive = tmp_path / DATASETS["cifar10"].remote.name
    with tarfile.open(archive, "w:gz") as taped:
        taped.add(tmp_path / "made" / "cifar-10-batches-bin", "cifar-10-batches-bin")
        taped.addfile(tarfile.TarInfo("cifar-10-batches-bin/../../escaped"))
    pin(monkeypatch, "cifar10", archive)
    with pytest.raises(InputError, match="outside the destination"):
        load_dataset("cifar10", tmp_path, any_size=True)
    assert {path.name for path in tmp_path.iterdir()} == {"made", archive.name}
