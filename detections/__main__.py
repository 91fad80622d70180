"""`python -m detections` and the `detections` command."""

import signal
import sys

_on_interrupt = signal.getsignal(signal.SIGINT)
if _on_interrupt is signal.default_int_handler:
    # nothing has been started while the modules load: Ctrl-C just ends the process, and a traceback would help nobody
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from detections.cli import app  # noqa: E402 - see above
from detections.exits import EXIT_INTERRUPTED  # noqa: E402


def main() -> None:
    """Run the command that the arguments name; the process ends with its exit code."""
    try:
        signal.signal(signal.SIGINT, _on_interrupt)
        app()
    except KeyboardInterrupt:  # before or after the command, which has its own answer to it
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
