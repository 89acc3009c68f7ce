"""One file a recipe of a search: what `search { recipe = NAME }` stands for, with a network to try it on."""
