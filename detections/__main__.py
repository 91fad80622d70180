"""`python -m detections` and the `detections` command."""

import os
import signal
import sys

_on_interrupt = signal.getsignal(signal.SIGINT)
if _on_interrupt is signal.default_int_handler:
    # nothing has been started while the modules load: Ctrl-C just ends the process, and a traceback would help nobody
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from detections.cli import app  # noqa: E402 - see above
from detections.exits import ended_by_exit_code  # noqa: E402

_STDERR = 2


def main() -> None:
    """Run the command that the arguments name; the process ends with its exit code."""
    with ended_by_exit_code():
        signal.signal(signal.SIGINT, _on_interrupt)
        _open_what_is_closed()
        app()


def _open_what_is_closed() -> None:
    """Have stdin, stdout and stderr lead nowhere where the caller closed them: the next file would be given their number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


if __name__ == "__main__":
    main()
