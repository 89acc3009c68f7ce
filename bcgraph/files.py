"""Writing files so that a reader never sees half of one.

Everything that lasts is written to a temporary file beside its target, flushed to the disk, and moved into place in
one step. When anything goes wrong, a full disk and Ctrl-C included, the target keeps its old content and the
temporary file is removed. The temporary name carries `TEMPORARY`, so that `sweep` can remove what a killed process
left.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from bcgraph.errors import RunError

TEMPORARY = ".bcgraph-tmp-"

_YOUNG = 1.0
"""Seconds in which who makes a temporary file has claimed it."""

# What a file system without locks answers.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the directory of `path`, moved to `path` when the block ends well.

    The block may only write to the temporary path: an OSError in it is taken for a failure to write. The suffix of
    `path` is kept, so that writers which choose a format by it work. A symbolic link is followed, and the directory is
    not created. An existing file keeps its mode and, where the system allows it, its owner. Raises RunError (E084).
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        final = target.resolve()
        before = _present(final)
        temporary = final.with_name(f".{final.stem}{TEMPORARY}{secrets.token_hex(6)}{final.suffix}")
        # Made here and not by the block, so that an unwritable directory is found out before the work.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        _flush(temporary)
        if before is not None:
            _like(temporary, before)
        temporary.replace(final)
        temporary = None
        _flush_directory(final.parent)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], data: bytes | bytearray) -> None:
    """Replace the content of `path` in one step. Raises RunError (E084)."""
    with writing(path) as temporary, temporary.open("wb") as stream:
        stream.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Replace the content of `path` by `text` as UTF-8, in one step. Raises RunError (E084).

    A name of a file in it that is not UTF-8 is escaped, as messages show it.
    """
    write_bytes(path, escaped(text).encode())


def escaped(text: str) -> str:
    """`text` with escapes in place of what UTF-8 cannot hold: bytes of names of files that are not UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def expanded(path: str) -> Path:
    """A path as a text or an option gives it, with `~` as the shell reads it."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user, or no home
        return Path(path)


def directory(path: str | os.PathLike[str]) -> Path:
    """`path` as a directory that exists, made with its parents. Raises RunError (E084)."""
    made = Path(path)
    try:
        made.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(made, error) from error
    return made


@contextmanager
def locked(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Hold a run directory for this process alone, made if it is missing, and sweep it.

    The lock belongs to the process and dies with it, also after a kill; it works on Linux, macOS and Windows. Where the
    system can lock a directory, it is held too, so that removing the lock file lets nobody in. On a file system without
    locks the directory is used unlocked. Raises RunError: E086 when another process holds it, E084 when it cannot be
    written.
    """
    import filelock  # 30 ms that a command which only writes a file does not pay

    made = directory(path)
    lock = filelock.FileLock(made / ".lock", blocking=False, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise _in_use(made) from error
    except NotImplementedError:
        pass
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise cannot_write(made, error) from error
    try:
        with _held(made):
            if lock.is_locked:
                sweep(made)
            yield made
    finally:
        lock.release()


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Lock the directory itself, where the system can. Raises RunError (E086)."""
    try:
        import fcntl
    except ImportError:  # Windows, where nobody can remove a lock file that is open
        yield
        return
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _in_use(path) from error
        except OSError:
            pass  # a file system that locks files alone, or nothing
        yield
    finally:
        os.close(handle)


def _in_use(path: Path) -> RunError:
    return RunError(
        "E086",
        f"the run directory `{path}` is in use by another process",
        hint="wait for it to end, or name another directory",
    )


def sweep(path: str | os.PathLike[str]) -> None:
    """Remove the temporary files that a killed process left in a directory nobody else is writing to."""
    for left in Path(path).glob(f".*{TEMPORARY}*"):
        with suppress(OSError):
            left.unlink()


def room(folder: str | os.PathLike[str], size: int) -> None:
    """Raise RunError (E084) where `size` bytes cannot be written below a folder: for libraries that do not notice."""
    place = Path(folder) / f"{TEMPORARY}{secrets.token_hex(6)}"
    try:
        with place.open("wb") as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, size)
            else:
                stream.write(bytes(size))
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        place.unlink(missing_ok=True)


def claim(stream: BinaryIO) -> None:
    """Mark an open temporary file as one that a living process writes, where the system can lock it."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sweep_dead(path: str | os.PathLike[str]) -> None:
    """Remove the temporary files for `path` that processes had claimed which are gone: others may be writing too."""
    try:
        import fcntl
    except ImportError:  # Windows: who is gone cannot be told
        return
    target = Path(path)
    for left in target.parent.glob(f".{glob.escape(target.stem)}{TEMPORARY}*"):
        with suppress(OSError), left.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # One that was made just now may not have been claimed yet.
            if time.time() - os.fstat(stream.fileno()).st_mtime > _YOUNG:
                left.unlink()


def cannot_write(path: str | os.PathLike[str], error: OSError) -> RunError:
    """The error for a failure to write `path`: E084 with one line that says what the system answered."""
    reason = error.strerror or str(error) or type(error).__name__
    return RunError(
        "E084",
        f"cannot write `{os.fspath(path)}`: {reason[:1].lower()}{reason[1:]}",
        hint="nothing was changed; free space or name another place, and run the same command again",
    )


def _present(final: Path) -> os.stat_result | None:
    """What is known of an existing target, None for a new one; refuses to replace what is not a file."""
    try:
        found = final.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(None, "it is a directory")
    if not stat.S_ISREG(found.st_mode):
        # Moving a file over a device or a pipe would replace the device itself.
        raise OSError(None, "it is not a regular file")
    return found


def _like(temporary: Path, before: os.stat_result) -> None:
    """Give the new file the owner, the group and the mode that the old one has."""
    own = temporary.stat()
    if hasattr(os, "chown") and (own.st_uid, own.st_gid) != (before.st_uid, before.st_gid):
        for owner, group in ((before.st_uid, -1), (-1, before.st_gid)):
            # Only root may give a file away; a group may be one of this user's.
            with suppress(PermissionError):
                os.chown(temporary, owner, group)
    temporary.chmod(stat.S_IMODE(before.st_mode))


def _flush(path: Path) -> None:
    # Windows flushes only what is open for writing; a directory can only be opened for reading.
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_directory(path: Path) -> None:
    # The file is in place already; a file system that cannot flush a directory is no reason to fail.
    with suppress(OSError):
        _flush(path)
