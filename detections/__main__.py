"""`python -m detections` and the `detections` command."""

import signal

_on_interrupt = signal.getsignal(signal.SIGINT)
if _on_interrupt is signal.default_int_handler:
    # nothing has been started while the modules load: Ctrl-C just ends the process, and a traceback would help nobody
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from detections.cli import app  # noqa: E402 - see above


def main() -> None:
    """Run the command that the arguments name; the process ends with its exit code."""
    signal.signal(signal.SIGINT, _on_interrupt)
    app()


if __name__ == "__main__":
    main()
