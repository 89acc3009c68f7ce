"""`recipe = recommended`: a bundle of settings that a file overrides one by one, and that its canonical text shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bcgraph import dsl
from bcgraph.errors import SpecError
from bcgraph.schema import SearchSpec
from bcgraph.schema.search import RECIPES

SEARCHES = Path(__file__).parents[2] / "specs" / "searches"
NET = "bcg 1\nnetwork net { input = image(1, 8, 8); steps = 2; backbone = tiny(width=3) }\n"


def search(inside: str) -> SearchSpec:
    spec = dsl.parse(f"{NET}search {{ {inside} }}\n")
    text = dsl.format_spec(spec)
    assert dsl.parse(text) == spec
    assert dsl.format_spec(dsl.parse(text)) == text
    return spec.search


def test_a_recipe_is_the_section_of_its_file() -> None:
    assert {path.stem for path in SEARCHES.glob("*.bcg")} == set(RECIPES[1:])
    for name in RECIPES[1:]:
        own = dsl.load(SEARCHES / f"{name}.bcg").search.model_dump(mode="json")
        assert search(f"recipe = {name}").model_dump(mode="json") == own | {"recipe": name}


def test_the_papers_recipe_is_what_holds_anyway() -> None:
    assert search("recipe = paper") == search("") == SearchSpec()
    assert "recipe" not in SearchSpec().model_dump()


def test_a_file_overrides_single_settings() -> None:
    base = search("recipe = recommended")
    found = search("init { keep = 5; choose = turns }; recipe = recommended; finish { seeds = 1 }; max_backward = 3")
    expected: dict[str, Any] = base.model_dump(mode="json")
    expected["max_backward"] = 3
    expected["init"] = {**expected["init"], "keep": 5}
    del expected["init"]["choose"]
    expected["finish"] = {**expected["finish"], "seeds": 1}
    assert found.model_dump(mode="json") == expected


def test_another_strategy_or_objective_takes_nothing_that_contradicts_it() -> None:
    base = search("recipe = recommended")
    halving = search("recipe = recommended; evolve { strategy = halving; eta = 2 }")
    assert (halving.evolve.score, halving.evolve.choose, halving.evolve.iterations) == ("oneshot", "best", 20)
    assert (halving.init, halving.finish) == (base.init, base.finish)
    several = search("recipe = recommended; maximize = [e]; minimize = [operations]")
    assert (several.evolve.score, several.evolve.choose) == ("oneshot", "additive")


def test_settings_of_the_command_line() -> None:
    spec = dsl.parse(NET, settings=["search.recipe=recommended", "search.finish.top=2"])
    assert spec.search == search("recipe = recommended; finish { top = 2 }")


@pytest.mark.parametrize(
    ("inside", "says"),
    [
        ("recipe = recomended", "did you mean `recommended`"),
        ("recipe = recommended; recipe = paper", "`recipe` is given twice"),
        ("recipe = 3", "`recipe`"),
        ("recipe = recommended; init { kep = 3 }", "there is no setting `kep`"),
        ("recipe = recommended; finish { top = 1 }; finish { top = 2 }", "`finish` is given twice"),
    ],
)
def test_mistakes(inside: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        search(inside)
    assert says in str(caught.value)
    assert "recommended.bcg" not in str(caught.value)
