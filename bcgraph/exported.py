"""The specification that an exported file carries, read without torch and without running the file."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from bcgraph import foreign, run_files, seals
from bcgraph.errors import BcgraphWarning, RunError

OURS = "bcgraph."
"""What the names of all entries begin with."""

ENTRY = "bcgraph.spec"
"""The name under which files hold the text of their specification."""

SPECIFICATION = "# The specification that this was made of:\n"
"""The line of a .py file after which its specification stands, each line a comment."""

COMMENT = "#   "
"""What begins each of those lines."""

MAX_TEXT = 1024 * 1024


class _ForeignError(ValueError):
    """A file is not of the format that its ending says, or holds no specification."""


def _reason(error: Exception) -> str:
    """What a library says, in one line."""
    from bcgraph.signature import first_line

    return first_line(error)


def _onnx(content: bytes) -> Mapping[str, str]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise _ForeignError(f"it is damaged, or no ONNX file: {_reason(error)}") from None
    return {entry.key: entry.value for entry in model.metadata_props}


def _nir(content: bytes) -> Mapping[str, str]:
    try:
        import h5py
    except ImportError:
        raise RunError("E092", "NIR files need the package `nir`", hint="pip install 'bcgraph[nir]'") from None
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            entries = file.get("node/metadata")
            values = {} if not isinstance(entries, h5py.Group) else {name: entries[name] for name in entries}
            read = {name: value[()] for name, value in values.items() if isinstance(value, h5py.Dataset)}
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise _ForeignError(f"it is damaged, or no NIR file: {_reason(error)}") from None
    return {name: foreign.text(value) for name, value in read.items() if isinstance(value, bytes)}


def _pt2(content: bytes) -> Mapping[str, str]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            found = {each.filename.partition("/extra/")[2]: each for each in file.infolist()}
            small = {name: each for name, each in found.items() if name.startswith(OURS) and each.file_size <= MAX_TEXT}
            return {name: foreign.text(file.read(each)) for name, each in small.items()}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise _ForeignError(f"it is damaged, or no .pt2 file: {_reason(error)}") from None


def _python(content: bytes) -> Mapping[str, str]:
    _, mark, after = foreign.text(content).replace("\r\n", "\n").partition(SPECIFICATION)
    if not mark:
        return {}
    lines: list[str] = []
    for line in after.split("\n"):
        if not line.startswith(COMMENT.rstrip()):
            break
        lines.append(line.removeprefix(COMMENT.rstrip()).removeprefix(COMMENT[len(COMMENT.rstrip()) :]))
    return {ENTRY: "\n".join(lines) + "\n"}


READERS: Mapping[str, Callable[[bytes], Mapping[str, str]]] = {
    ".onnx": _onnx,
    ".nir": _nir,
    ".pt2": _pt2,
    ".py": _python,
}
"""What reads the metadata of a file, the text of its specification among them, by the ending of the file."""


def is_exported(path: str | Path) -> bool:
    """Whether the ending of a file is one of those that networks are exported to."""
    return Path(path).suffix in READERS


def specification(path: str | Path) -> str:
    """The text of the specification in an exported file. Raises as `metadata` does."""
    return metadata(path)[ENTRY]


def metadata(path: str | Path) -> Mapping[str, str]:
    """What an exported file says of itself, by its names; the specification is among it. A `.py` file says no more.

    Raises RunError: E087 when the file is missing, damaged, or holds no specification, E092 for a package that is
    needed to read it, E085 for the file of another search in the directory of one. A file that a tool has rewritten is
    read, with a BcgraphWarning.
    """
    from bcgraph.signature import changed

    place = Path(path)
    try:
        content = foreign.read(place)
        if seals.intact(content) is False:
            if not seals.rewritten(content):
                raise changed(place)
            message = f"`{place}` is not as bcgraph wrote it: a tool has changed it"
            warnings.warn(message, BcgraphWarning, stacklevel=2)
        read = READERS[place.suffix](content)
    except OSError as error:
        raise RunError("E087", f"`{place}` cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (foreign.UnreadableError, _ForeignError) as error:
        raise RunError("E087", f"`{place}` cannot be read: {error}") from None
    found = read.get(ENTRY)
    if found is None or len(found) > MAX_TEXT:
        raise RunError(
            "E087",
            f"`{place}` holds no specification of bcgraph",
            hint="`bcgraph compile SPEC_OR_RUN -o FILE` writes files that do",
        )
    run_files.check_exported(place, read)
    return read
