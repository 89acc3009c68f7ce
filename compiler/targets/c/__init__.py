"""Target C: one step of a network as a C99 file, for machines without a runtime."""

ENDING = ".c"
