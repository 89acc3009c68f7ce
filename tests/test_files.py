"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bcgraph import files
from bcgraph.errors import RunError


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_writes_and_replaces(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "ä")
    assert target.read_bytes() == "ä".encode()
    files.write_bytes(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(tmp_path) == ["a.txt"]


def test_keeps_suffix_and_directory(tmp_path: Path) -> None:
    with files.writing(tmp_path / "picture.svg") as temporary:
        assert temporary.parent == tmp_path.resolve()
        assert temporary.suffix == ".svg"
        temporary.write_text("x")
        assert not (tmp_path / "picture.svg").exists()
    assert names(tmp_path) == ["picture.svg"]


def test_keeps_mode_and_follows_links(tmp_path: Path) -> None:
    real = tmp_path / "real.txt"
    real.write_text("old")
    real.chmod(0o640)
    link = tmp_path / "link.txt"
    link.symlink_to(real)
    files.write_text(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("failure", [ValueError("bug"), KeyboardInterrupt()])
def test_other_failures_pass_and_leave_the_old_file(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def half() -> None:
        with files.writing(target) as temporary:
            temporary.write_text("half")
            raise failure

    with pytest.raises(type(failure)):
        half()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_full_disk_while_writing(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def half() -> None:
        # /dev/full answers every write with "no space left on device", as a full disk does.
        with files.writing(target) as temporary, Path("/dev/full").open("wb", buffering=0) as full:
            temporary.write_text("half")
            full.write(b"rest")

    with pytest.raises(RunError) as caught:
        half()
    assert caught.value.code == "E084"
    assert "no space left on device" in str(caught.value)
    assert str(target) in str(caught.value)
    assert len(caught.value.diagnostics) == 1
    assert "\n" not in caught.value.diagnostics[0].message
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failure_of_the_system_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RunError, match="no space left"):
        files.write_text(target, "new")
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_real_full_disk(tmp_path: Path) -> None:
    """On a file system of 64 KiB, where the test may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        files.write_bytes(disk / "small", b"1" * 1000)
        with pytest.raises(RunError, match="no space left"):
            files.write_bytes(disk / "small", b"2" * 1_000_000)
        assert (disk / "small").read_bytes() == b"1" * 1000
        assert names(disk) == ["small"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    "place",
    ["/proc/bcgraph-test.txt", "/dev/full", "/nowhere/at/all.txt", "FILE/below.txt", "DIRECTORY"],
)
def test_places_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    target = place.replace("FILE", str(tmp_path / "file")).replace("DIRECTORY", str(tmp_path))
    with pytest.raises(RunError) as caught:
        files.write_text(target, "x")
    assert caught.value.code == "E084"
    assert target in str(caught.value)
    assert names(tmp_path) == ["file"]


def test_read_only_directory_is_found_before_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunError, match="permission denied"), files.writing(tmp_path / "a"):
        pytest.fail("the block must not be entered")


def test_directory(tmp_path: Path) -> None:
    assert files.directory(tmp_path / "a" / "b").is_dir()
    assert files.directory(tmp_path / "a").is_dir()
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/bcgraph-test")):
        with pytest.raises(RunError) as caught:
            files.directory(place)
        assert caught.value.code == "E084"


def test_a_run_directory_has_one_user(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with files.locked(run) as held:
        assert held == run
        with pytest.raises(RunError) as caught, files.locked(run):
            pytest.fail("locked twice")
        assert caught.value.code == "E086"
    with files.locked(run):
        pass


def test_a_killed_process_leaves_neither_a_lock_nor_rubbish(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from bcgraph import files\n"
        "with files.locked(sys.argv[1]) as run, files.writing(run / 'a.txt') as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60)
    assert len(names(tmp_path)) == 2
    with files.locked(tmp_path):
        assert names(tmp_path) == [".lock"]


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path) -> None:
    name = os.fsdecode(b"run-\xff")
    files.write_text(tmp_path / "a.txt", f"in {name}")
    assert (tmp_path / "a.txt").read_bytes() == b"in run-\\udcff"


HALF = """
import sys, time
from pathlib import Path
from bcgraph import files
with files.writing(Path(sys.argv[1])) as temporary, temporary.open("w+b") as stream:
    files.claim(stream)
    stream.write(b"half")
    stream.flush()
    print("claimed", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there, who is gone cannot be told")
def test_what_a_killed_process_has_claimed_is_swept_and_what_a_living_one_writes_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_YOUNG", -1.0)
    target = tmp_path / "[frames].npy"
    (tmp_path / "f.bcgraph-tmp-of-another.npy").touch()
    with subprocess.Popen([sys.executable, "-c", HALF, str(target)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "claimed\n"
        files.sweep_dead(target)
        assert len(names(tmp_path)) == 2
        writer.kill()
    files.sweep_dead(target)
    assert names(tmp_path) == ["f.bcgraph-tmp-of-another.npy"]
    (tmp_path / f".[frames]{files.TEMPORARY}0.npy").touch()
    monkeypatch.setattr(files, "_YOUNG", 60.0)
    files.sweep_dead(target)
    assert len(names(tmp_path)) == 2


def test_room_that_is_not_there_is_an_error_before_a_library_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.room(tmp_path, 2**20)
    assert names(tmp_path) == []

    def full(handle: int, begin: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(RunError, match="no space left on device") as caught:
        files.room(tmp_path, 2**20)
    assert caught.value.code == "E084"
    assert names(tmp_path) == []
