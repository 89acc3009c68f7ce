"""What a search keeps: evaluations, the log, the study, the directory of a run."""
