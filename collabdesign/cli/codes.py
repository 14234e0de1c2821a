"""The exit codes of the commands."""

BAD_INPUT = 2
NOTHING_FITS = 3
GOALS_NOT_MET = 4
INTERRUPTED = 130
BROKEN_PIPE = 141  # as a shell says of any program that a closed pipe ended
