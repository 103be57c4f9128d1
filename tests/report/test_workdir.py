import errno
import json
import os

import pytest

from mca_jax.core.errors import InputError
from mca_jax.report.workdir import RunLog, prepare_workdir

SETTINGS = {"images": "pets", "num_clusters": 10, "train": {"epochs": 30, "rate": 0.1}}
OUTPUTS = ("assignments.csv", "report.html")


def refuse(number):
    """A stand-in for a call that the system refuses."""

    def call(*_):
        raise OSError(number, os.strerror(number))

    return call


def test_new_folder_knows_its_settings(tmp_path):
    folder = tmp_path / "a" / "b"
    assert prepare_workdir(folder, SETTINGS) == "new"
    stored = json.loads((folder / "config.json").read_text())
    assert stored == {"settings": SETTINGS}


def test_the_same_settings_resume_and_keep_everything(tmp_path):
    prepare_workdir(tmp_path, SETTINGS)
    full = {"settings": SETTINGS, "provenance": {"jax": "0.10.2"}}
    (tmp_path / "config.json").write_text(json.dumps(full))
    (tmp_path / "report.html").write_text("old")
    for overwrite in (False, True):
        same = prepare_workdir(tmp_path, SETTINGS, outputs=OUTPUTS, overwrite=overwrite)
        assert same == "same"
    assert json.loads((tmp_path / "config.json").read_text()) == full
    assert (tmp_path / "report.html").read_text() == "old"


def test_other_settings_are_named(tmp_path):
    prepare_workdir(tmp_path, SETTINGS)
    other = {
        "images": "dogs",
        "num_clusters": 12,
        "seed": 3,
        "train": {"epochs": 20, "rate": 0.1},
    }
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(InputError) as caught:
        prepare_workdir(tmp_path, other, outputs=OUTPUTS)
    assert str(caught.value) == (
        f"Workdir '{tmp_path}' belongs to another configuration: images is "
        '"pets" there and "dogs" now, num_clusters is 10 there and 12 now, '
        "train.epochs is 30 there and 20 now, and 1 more; choose another --workdir or "
        "pass --overwrite"
    )
    fewer = {key: value for key, value in SETTINGS.items() if key != "images"}
    with pytest.raises(InputError, match='images is "pets" there and not set now'):
        prepare_workdir(tmp_path, fewer, outputs=OUTPUTS)


def test_a_run_without_a_result_blocks_nothing(tmp_path):
    outputs = (*OUTPUTS, "log.jsonl")
    prepare_workdir(tmp_path, SETTINGS, outputs=outputs)
    (tmp_path / "log.jsonl").write_text("")
    (tmp_path / "mine.txt").write_text("mine")
    other = {**SETTINGS, "num_clusters": 3}
    assert prepare_workdir(tmp_path, other, outputs=outputs) == "new"
    stored = json.loads((tmp_path / "config.json").read_text())["settings"]
    assert stored["num_clusters"] == 3
    assert (tmp_path / "mine.txt").exists()
    # With one it does.
    (tmp_path / "assignments.csv").write_text("")
    with pytest.raises(InputError, match="num_clusters is 3 there and 10 now"):
        prepare_workdir(tmp_path, SETTINGS, outputs=outputs)


def test_settings_that_may_differ(tmp_path):
    prepare_workdir(tmp_path, SETTINGS)
    (tmp_path / "report.html").write_text("old")
    other = {**SETTINGS, "num_clusters": 3}
    opened = {"outputs": OUTPUTS, "open_settings": ["num_clusters"]}
    assert prepare_workdir(tmp_path, other, **opened) == "same"
    stored = json.loads((tmp_path / "config.json").read_text())["settings"]
    assert stored == other
    with pytest.raises(InputError, match="seed is not set there and 1 now"):
        prepare_workdir(tmp_path, {**other, "seed": 1}, **opened)


def test_a_folder_that_was_kept_as_it_was_typed(tmp_path, monkeypatch):
    prepare_workdir(tmp_path, SETTINGS)
    (tmp_path / "report.html").write_text("old")
    monkeypatch.chdir(tmp_path)
    now = {**SETTINGS, "images": str(tmp_path / "pets")}
    assert prepare_workdir(tmp_path, now, outputs=OUTPUTS) == "same"
    monkeypatch.chdir("/")
    (tmp_path / "config.json").write_text(json.dumps({"settings": SETTINGS}))
    with pytest.raises(InputError, match="images is"):
        prepare_workdir(tmp_path, now, outputs=OUTPUTS)


def test_overwrite_takes_a_run_whose_settings_are_damaged(tmp_path):
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(InputError, match="is not the settings of a run"):
        prepare_workdir(tmp_path, SETTINGS, outputs=OUTPUTS)
    assert prepare_workdir(tmp_path, SETTINGS, outputs=OUTPUTS, overwrite=True) == "new"


def test_overwrite_removes_what_the_other_run_wrote(tmp_path):
    prepare_workdir(tmp_path, SETTINGS)
    for name in (*OUTPUTS, "mine.txt"):
        (tmp_path / name).write_text("old")
    new = {**SETTINGS, "num_clusters": 3}
    replaced = prepare_workdir(tmp_path, new, outputs=OUTPUTS, overwrite=True)
    assert replaced == "replaced"
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "mine.txt"}
    assert prepare_workdir(tmp_path, new, outputs=OUTPUTS) == "same"


def test_files_of_no_known_run_are_not_touched(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(InputError, match=r"holds report\.html without the settings"):
        prepare_workdir(tmp_path, SETTINGS, outputs=OUTPUTS)
    assert not (tmp_path / "config.json").exists()
    assert prepare_workdir(tmp_path, SETTINGS, outputs=OUTPUTS, overwrite=True) == "new"
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("content", ['{"model_type": "clip"}', "[1]", "{", "\xff"])
def test_a_config_of_somebody_else_survives_overwrite(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content.encode("latin-1"))
    for overwrite in (False, True):
        with pytest.raises(InputError, match="is not the settings of a run"):
            prepare_workdir(tmp_path, SETTINGS, overwrite=overwrite)
    assert path.read_bytes() == content.encode("latin-1")


def test_a_file_is_no_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below"):
        with pytest.raises(InputError, match="Can't create workdir .*file.*choose ano"):
            prepare_workdir(tmp_path / name, SETTINGS)


def test_a_folder_that_takes_no_files(tmp_path, monkeypatch):
    prepare_workdir(tmp_path, SETTINGS)
    monkeypatch.setattr("mca_jax.report.workdir.os.replace", refuse(errno.EROFS))
    with pytest.raises(InputError, match=r"config\.json': Read-only file system; choo"):
        prepare_workdir(tmp_path, SETTINGS)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write")
def test_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InputError, match=r"Can't write .*config\.json.*Permission"):
            prepare_workdir(tmp_path, SETTINGS)
    finally:
        tmp_path.chmod(0o700)


def read_log(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line]


def test_log_is_on_disk_line_by_line_and_grows(tmp_path):
    times = iter([0.25, 86400.0, 1e9])
    with RunLog(tmp_path, clock=lambda: next(times)) as log:
        log.write("start", images=3)
        assert len(read_log(tmp_path)) == 1
        log.write("epoch", loss=float("nan"), event_name="a\nb")
    with RunLog(tmp_path, clock=lambda: next(times)) as log:
        log.write("start")
    log.close()
    assert read_log(tmp_path) == [
        {"time": "1970-01-01T00:00:00.250Z", "event": "start", "images": 3},
        {
            "time": "1970-01-02T00:00:00.000Z",
            "event": "epoch",
            "loss": None,
            "event_name": "a\nb",
        },
        {"time": "2001-09-09T01:46:40.000Z", "event": "start"},
    ]


def test_log_goes_on_after_half_a_line(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"event": "start"}\n{"event": "ep')
    with RunLog(tmp_path) as log:
        log.write("again")
    *_, half, last = (tmp_path / "log.jsonl").read_text().splitlines()
    assert half == '{"event": "ep'
    assert json.loads(last)["event"] == "again"


def test_log_needs_a_folder(tmp_path):
    with pytest.raises(InputError, match=r"Can't write .*log\.jsonl': No such file"):
        RunLog(tmp_path / "nowhere")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_log_without_room(tmp_path):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    log = RunLog(tmp_path)
    with pytest.raises(InputError, match=r"log\.jsonl': No space left on device"):
        log.write("start")
    log.close()
