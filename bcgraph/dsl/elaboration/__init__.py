"""From the syntax tree to the specification, part by part."""
