"""The exit codes of every command."""

EXIT_FAILED = 1
EXIT_MISUSED = 2
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as a shell tells it."""
