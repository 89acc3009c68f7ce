"""Analysis of compiled programs: cost, memory, precision."""
