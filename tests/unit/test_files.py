import os
import stat

import pytest
import torch

from onebasin.errors import OnebasinError
from onebasin.storage import artifacts
from onebasin.storage.files import remove_leftovers, replacing, write_text


def test_text_is_written_as_utf_8_with_unix_line_ends(tmp_path):
    write_text(tmp_path / "note.txt", "größer\nals 1\n")
    assert (tmp_path / "note.txt").read_bytes() == "größer\nals 1\n".encode()


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "note.txt", "x")
    assert (tmp_path / "a" / "b" / "note.txt").read_text() == "x"


def test_the_temporary_file_is_beside_its_place_and_keeps_the_suffix(tmp_path):
    with replacing(tmp_path / "figure.pdf") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".pdf"
        assert temporary.name != "figure.pdf"
        temporary.write_text("x")


def test_the_place_holds_the_old_file_until_the_block_ends(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_a_failing_block_leaves_the_old_file_and_no_temporary(tmp_path, error):
    path = tmp_path / "note.txt"
    path.write_text("old")

    def fail_half_way():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail_half_way()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


def test_a_full_disk_is_one_line_that_names_the_file(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("old")

    def fill_the_disk():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OnebasinError, match=r"note\.txt: not written \(No space left on device\)") as caught:
        fill_the_disk()
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("place", ["file/note.txt", "file/folder/note.txt"])
def test_a_place_below_a_regular_file_is_one_line_that_names_it(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(OnebasinError, match=r"note\.txt: not written") as caught:
        write_text(tmp_path / place, "x")
    assert "\n" not in str(caught.value)


def test_a_folder_in_the_place_is_one_line_and_stays(tmp_path):
    (tmp_path / "note.txt").mkdir()
    with pytest.raises(OnebasinError, match=r"note\.txt: not written"):
        write_text(tmp_path / "note.txt", "x")
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]
    assert (tmp_path / "note.txt").is_dir()


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path):
    kept = ["model.safetensors", ".hidden", ".model-0123.txt", "folder/.keep-0123456789ab"]
    for name in kept:
        write_text(tmp_path / name, "x")
    (tmp_path / kept[-1]).rename(tmp_path / "folder" / "keep-0123456789ab")
    with replacing(tmp_path / "folder" / "seed-1.safetensors") as temporary:
        left = temporary.with_name(f".other-{temporary.stem[-12:]}.csv")
        left.write_text("half")
        temporary.write_text("whole")
    remove_leftovers(tmp_path)
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == sorted([*kept[:-1], "folder/keep-0123456789ab", "folder/seed-1.safetensors"])


def test_removing_leftovers_where_nothing_was_written_is_no_error(tmp_path):
    assert remove_leftovers(tmp_path / "absent") is None


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664), (0o077, 0o600)])
def test_files_have_the_mode_that_the_umask_gives_whatever_writes_them(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_text(tmp_path / "note.txt", "x")
        artifacts.save(tmp_path / "model.safetensors", "model", {"a": torch.zeros(2)})
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()] == [mode] * 2
