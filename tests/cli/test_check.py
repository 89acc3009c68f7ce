import json
from pathlib import Path

import pytest

from tests.cli.conftest import TINY, Command


def test_a_good_file_gets_one_line(bcgraph: Command, tiny: Path) -> None:
    done = bcgraph("check", "net.bcg")
    assert (done.code, done.err) == (0, "")
    assert done.out == "net.bcg: tiny_net: 5 ports, 1 backward connection, 2 steps\n"


def test_errors_name_place_code_and_hint(bcgraph: Command, tiny: Path) -> None:
    tiny.write_text(TINY.replace("tiny(", "tiyn(").replace("epochs = 4", "epoch = 4"))
    done = bcgraph("check", "net.bcg")
    assert done.code == 1
    assert done.out == ""
    lines = done.err.splitlines()
    assert lines[0].startswith("net.bcg:6:14: error[E031]: ")
    assert lines[1] == "    6 |   backbone = tiyn(width=4, classes=10)"
    assert "net.bcg:12:9: error[E032]: " in done.err
    assert "did you mean `tiny`?" in done.err
    assert "did you mean `epochs`?" in done.err
    assert lines[-1] == "2 errors in 1 file"


def test_json_holds_the_same_as_data(bcgraph: Command, tiny: Path) -> None:
    assert json.loads(bcgraph("check", "--json", "net.bcg").out) == {"diagnostics": []}
    tiny.write_text(TINY.replace("tiny(", "tiyn("))
    done = bcgraph("check", "--json", "net.bcg")
    assert (done.code, done.err) == (1, "")
    (found,) = json.loads(done.out)["diagnostics"]
    assert (found["file"], found["line"], found["column"], found["code"]) == ("net.bcg", 6, 14, "E031")
    assert found["hint"] == "did you mean `tiny`?"


def test_all_files_are_checked_after_one_has_failed(bcgraph: Command, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.bcg").write_text("bcg 1\nnetwork {")
    done = bcgraph("check", "bad.bcg", "missing.bcg", "net.bcg")
    assert done.code == 1
    assert "bad.bcg:2:9: error[" in done.err
    assert "error[E001]" in done.err
    assert "missing.bcg" in done.err
    assert done.out.startswith("net.bcg: tiny_net")
    assert done.err.splitlines()[-1].endswith("in 2 files")


def test_standard_input(process: Command) -> None:
    done = process("check", "-", stdin=TINY.encode())
    assert done.out == "-: tiny_net: 5 ports, 1 backward connection, 2 steps\n"
    done = process("check", "-", stdin=TINY.replace("tiny(", "tiyn(").encode())
    assert done.fault("E031").startswith("<stdin>:6:14: ")


def test_text_that_is_none(process: Command, tmp_path: Path) -> None:
    for name, data in {"nul.bcg": b"bcg 1\n\0", "latin.bcg": b"bcg 1\n# caf\xe9\n"}.items():
        (tmp_path / name).write_bytes(data)
        assert name in process("check", name).fault("E003")
    assert process("check", "-", stdin=b"\xff\xfe").fault("E003")
    assert process("check", ".").fault("E001")
    assert process("check", "").fault("E001")


def test_wrong_usage(process: Command) -> None:
    for arguments in (["check"], ["check", "--nothing", "x"], ["nothing"]):
        done = process(*arguments)
        assert done.code == 2, arguments
        assert "Traceback" not in done.err


def test_a_delay_that_never_acts_is_a_note(bcgraph: Command, tiny: Path) -> None:
    own = TINY.replace("backward @4 -> @1", "backward @4 -> @1 { delay = 2 }")
    tiny.write_text(own + "search { space { backward any -> any { delay = [1, 7] } } }\n")
    done = bcgraph("check", "net.bcg")
    assert done.code == 0
    assert done.err.splitlines() == [
        "note: net.bcg: a delay of 2 never acts: the network runs 2 steps",
        "note: net.bcg: a delay of 7 never acts: the network runs 2 steps",
    ]


@pytest.mark.parametrize(
    ("section", "code", "says"),
    [
        ("search { init { pool = 3; keep = 4 } }", "E089", "init.keep = 4 is more than init.pool = 3"),
        ("search { init { batch = 1 } }", "E089", "scores compare samples"),
        ("search { evolve { top = 9; population = 8 } }", "E089", "evolve.top = 9"),
        ("search { subject_to { parameters <= 10 } }", "E067", "parameters"),
        ("train { accumulate = 65 }", "E041", "a batch of 128 cannot be computed in 65 parts"),
        ("train { optimizer = sgd(momentum=0, nesterov=true) }", "E041", "needs a momentum"),
    ],
)
def test_what_a_search_or_a_training_run_refuses_is_found(
    bcgraph: Command, tiny: Path, section: str, code: str, says: str
) -> None:
    network = TINY[: TINY.index("\ndata")]
    tiny.write_text(f"{network}\ndata = digits(batch=128)\n{section}\n")
    done = bcgraph("check", "net.bcg")
    assert done.code == 1
    assert f"error[{code}]" in done.err
    assert says in done.err
