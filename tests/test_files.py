"""Files are written whole or not at all, in the folder that the user names."""

import errno
import os
from pathlib import Path

import pytest
from helpers import one_sentence

from lsnc_core import files
from lsnc_core.errors import UsageError
from lsnc_core.runs import store

# writing whole or not at all


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    files.write_whole(path, lambda place: place.write_text("old"))

    def half(error):
        def write(place):
            assert (
                place.parent == path.parent and place != path
            )  # on the same disk, so that the move is atomic
            place.write_text("ha")
            assert path.read_text() == "old"
            raise error

        return write

    for error in (RuntimeError("no"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            files.write_whole(path, half(error))
    with pytest.raises(
        UsageError, match=r"cannot write .*file\.txt: No space left on device; free some space"
    ) as caught:
        files.write_whole(path, half(OSError(28, "No space left on device")))
    assert one_sentence(caught.value)
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]
    files.write_whole(path, lambda place: place.write_text("new"))
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_a_written_file_can_be_read_by_others_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_whole(tmp_path / "file", lambda place: place.write_text("x"))
        assert os.umask(0o027) == 0o027  # and the umask is as it was
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_a_full_disk_is_reported_with_a_remedy(tmp_path):
    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(
        UsageError,
        match=r"^cannot write .*: No space left on device; "
        r"free some space or choose another folder with --outputs\.$",
    ):
        files.write_whole(tmp_path / "file", full)
    assert not list(tmp_path.iterdir())


def test_the_outputs_folder_is_the_one_named(tmp_path, monkeypatch):
    monkeypatch.setenv("LSNC_OUTPUTS", str(tmp_path))
    monkeypatch.delenv("LSNC_DATA", raising=False)
    assert (
        files.outputs_root() == tmp_path
        and store.Store().folder == tmp_path / "runs"
        and files.data_root() == tmp_path / "data"
    )
    monkeypatch.setenv("LSNC_DATA", "~/images")
    assert files.data_root() == Path.home() / "images"
    monkeypatch.setenv("LSNC_OUTPUTS", "")
    assert files.outputs_root() == files.PROJECT / "outputs"
