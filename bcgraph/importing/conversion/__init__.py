"""From a recording to layers of the language: a rule for each module and each function, found in two tables."""
