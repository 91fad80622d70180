"""`python -m consumers`: one consumer, configured by its environment."""

import os
import sys

from consumers.process import run
from consumers.settings import from_environment
from contracts import crashpoints
from contracts.settings import ConfigurationError
from contracts.tracing import recording


def main() -> None:
    """Serve until SIGTERM; exit with a message naming the setting that is wrong."""
    try:
        settings = from_environment(os.environ)
        crashpoints.arm(os.environ)
        with recording(service="detections-consumer"):
            run(settings)
    except ConfigurationError as error:
        sys.exit(f"consumers: {error}")


if __name__ == "__main__":
    main()
