"""`python -m detections` and the `detections` command."""

from detections.cli import app


def main() -> None:
    """Run the command that the arguments name; the process ends with its exit code."""
    app()


if __name__ == "__main__":
    main()
