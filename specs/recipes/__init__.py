"""One file a row of the paper's Tables 1 to 3 that is about its own networks; `docs/recipes.md` describes them."""
