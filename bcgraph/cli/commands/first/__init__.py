"""Commands for the first steps: a file to begin with, what errors mean, which data there is, a demonstration."""
