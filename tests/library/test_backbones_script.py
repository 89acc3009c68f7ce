"""The script that trains every backbone: its networks fit their data, and its table; the runs take minutes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bcgraph.data.declaration import check_network
from benchmarks import backbones
from benchmarks.placement import rows

ROW = backbones.Row("rsnn", "japanese_vowels", 2, 0.5, 8, "@1->@1", 0.25, 0.0, 0.5, 1.5)


@pytest.mark.parametrize("name", backbones.NETWORKS)
def test_networks_fit_their_data(name: str) -> None:
    check_network(backbones.spec_of(name))


def test_rows_come_back_and_the_table_has_the_order_of_the_networks(tmp_path: Path) -> None:
    found = (ROW, replace(ROW, backbone="vgg9", data="fashion_mnist"))
    rows.write(tmp_path / "b.csv", backbones.Row, found)
    assert rows.read(tmp_path / "b.csv", backbones.Row) == found
    lines = backbones.table(found).splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == ["vgg9", "rsnn"]
    assert "0.500 | 0.500 | 8, @1->@1 |" in lines[3]
