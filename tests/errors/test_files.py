"""Mistakes in files and between files."""

import os
from pathlib import Path

import pytest

from bcgraph import dsl
from bcgraph.dsl.source import MAX_BYTES, MAX_DIAGNOSTICS
from bcgraph.errors import Diagnostic, SpecError

NETWORK = "network net { input = image(3, 8, 8); steps = 2; backbone = tiny() }\n"


def failing(path: str | os.PathLike[str]) -> tuple[Diagnostic, ...]:
    with pytest.raises(SpecError) as caught:
        dsl.load(path)
    return caught.value.diagnostics


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (found,) = failing(tmp_path / "none.bcg")
    assert found.code == "E001"
    assert "No such file" in found.message
    assert str(tmp_path / "none.bcg") in found.message


def test_a_folder(tmp_path: Path) -> None:
    assert [d.code for d in failing(tmp_path)] == ["E001"]


def test_a_name_that_no_file_can_have() -> None:
    assert [d.code for d in failing("a\0b")] == ["E001"]


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "large.bcg"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    (found,) = failing(path)
    assert found.code == "E002"
    path.write_bytes(b"bcg 1\n" + NETWORK.encode() + b"#" * (MAX_BYTES - 6 - len(NETWORK)))
    assert dsl.load(path).name == "net"


@pytest.mark.parametrize(("content", "line", "column"), [(b"bcg 1\nab\xffc", 2, 3), ("é\n".encode() + b"\xc3(", 2, 1)])
def test_bytes_that_are_not_utf8(tmp_path: Path, content: bytes, line: int, column: int) -> None:
    path = tmp_path / "bytes.bcg"
    path.write_bytes(content)
    (found,) = failing(path)
    assert found.code == "E003"
    assert found.span is not None
    assert (found.span.file, found.span.line, found.span.column) == (str(path), line, column)
    assert found.hint == "save the file as UTF-8"


def test_a_byte_order_mark_and_windows_line_ends_are_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "windows.bcg"
    path.write_bytes(b"\xef\xbb\xbfbcg 1\r\n" + NETWORK.replace("\n", "\r\n").encode())
    assert dsl.load(path).name == "net"
    path.write_bytes(b"\xef\xbb\xbfbcg 1\r\nnetwork net {\r\n  steps = x\r\n}\r\n")
    found = [d for d in failing(path) if d.code == "E040"]
    assert [(d.span.line, d.span.column, d.excerpt) for d in found] == [(3, 11, "  steps = x")]


def test_imports_bring_blocks_from_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "unit.bcg").write_text("bcg 1\nblock unit(n) { conv = conv(n); lif = lif() }\n")
    (tmp_path / "parts" / "net.bcg").write_text(
        'bcg 1\nimport "unit.bcg"\nblock body() { u = unit(4); flatten(); fc = linear(2) }\n'
    )
    path = tmp_path / "main.bcg"
    path.write_text('bcg 1\nimport "parts/net.bcg"\nimport "parts/unit.bcg"\n' + NETWORK.replace("tiny", "body"))
    spec = dsl.load(path)
    assert spec.ports == ("u.lif",)
    assert dsl.parse(dsl.format_spec(spec)) == spec
    assert dsl.parse(path.read_text(), base=tmp_path) == spec
    with pytest.raises(SpecError) as caught:
        dsl.parse(path.read_text())
    assert {d.code for d in caught.value.diagnostics} == {"E022", "E031"}
    assert caught.value.hint == "a text without a file can import only standard files"


def test_imports_that_form_a_cycle(tmp_path: Path) -> None:
    (tmp_path / "a.bcg").write_text('bcg 1\nimport "b.bcg"\n' + NETWORK)
    (tmp_path / "b.bcg").write_text('bcg 1\nimport "a.bcg"\n')
    (found,) = failing(tmp_path / "a.bcg")
    assert found.code == "E023"
    assert found.message == "imports form a cycle: a.bcg -> b.bcg -> a.bcg"
    assert found.span is not None
    assert (Path(found.span.file).name, found.span.line, found.span.column) == ("b.bcg", 2, 8)
    (tmp_path / "a.bcg").write_text('bcg 1\nimport "a.bcg"\n' + NETWORK)
    assert [d.code for d in failing(tmp_path / "a.bcg")] == ["E023"]


def test_an_import_of_a_network(tmp_path: Path) -> None:
    (tmp_path / "other.bcg").write_text("bcg 1\n" + NETWORK)
    (tmp_path / "main.bcg").write_text('bcg 1\nimport "other.bcg"\n' + NETWORK)
    (found,) = failing(tmp_path / "main.bcg")
    assert found.code == "E035"
    assert found.span is not None
    assert (Path(found.span.file).name, found.span.line, found.span.column) == ("other.bcg", 2, 9)


def test_a_mistake_in_an_imported_block_names_its_file_and_the_calls_that_led_there(tmp_path: Path) -> None:
    (tmp_path / "unit.bcg").write_text("bcg 1\nblock unit(n) {\n  conv = conv(n)\n}\n")
    main = tmp_path / "main.bcg"
    main.write_text(
        'bcg 1\nimport "unit.bcg"\nblock body() {\n  u = unit(0)\n  l = lif(); flatten(); fc = linear(1)\n}\n'
        + NETWORK.replace("tiny", "body")
    )
    (found,) = failing(main)
    assert found.span is not None
    assert (found.code, found.span.file, found.span.line, found.span.column) == (
        "E041",
        str(tmp_path / "unit.bcg"),
        3,
        15,
    )
    assert found.excerpt == "  conv = conv(n)"
    assert found.notes == (f"in the call of `unit` at {main}:4:7", f"in the call of `body` at {main}:7:61")


def test_a_mistake_that_comes_up_in_the_library_is_reported_where_the_value_was_written() -> None:
    text = "bcg 1\nblock body(w) { inner = tiny(width=w) }\n" + NETWORK.replace("tiny()", "body(2 - 2)")
    with pytest.raises(SpecError) as caught:
        dsl.parse(text, file="case.bcg")
    (found,) = caught.value.diagnostics
    assert found.span is not None
    assert (found.code, str(found.span), found.excerpt) == ("E041", "case.bcg:2:36", text.split("\n")[1])
    assert found.notes[0].endswith("tiny.bcg:8:16")


def test_many_mistakes_end_somewhere() -> None:
    with pytest.raises(SpecError) as caught:
        dsl.parse("bcg 1\n" + "".join(f"a{n} = 1\n" for n in range(500)))
    assert len(caught.value.diagnostics) == MAX_DIAGNOSTICS
    assert caught.value.diagnostics[-1].notes == (f"only the first {MAX_DIAGNOSTICS} are shown",)


def test_the_same_mistake_in_every_call_is_reported_once() -> None:
    text = "bcg 1\nblock unit() { a = conv(0) }\n"
    text += "block body() { repeat i in range(9) { [i] = unit() }\nl = lif()\nflatten() }\n"
    with pytest.raises(SpecError) as caught:
        dsl.parse(text + NETWORK.replace("tiny", "body"))
    assert [d.code for d in caught.value.diagnostics] == ["E041"]


def test_findings_as_data() -> None:
    with pytest.raises(SpecError) as caught:
        dsl.parse("bcg 1\nnetwork n { steps = 0; input = image(1, 1, 1); backbone = tiny() }\n", file="x.bcg")
    assert caught.value.diagnostics[0].as_data() == {
        "code": "E041",
        "message": "`steps` cannot be 0",
        "file": "x.bcg",
        "line": 2,
        "column": 21,
        "end_line": 2,
        "end_column": 22,
        "hint": "allowed: 1 to 10000",
        "excerpt": "network n { steps = 0; input = image(1, 1, 1); backbone = tiny() }",
        "notes": [],
    }
