"""What is in a picture or a video, counted by label.

python examples/count_by_label.py photo.jpg [http://127.0.0.1:8000]
"""

import sys
from collections import Counter

from contracts.media import MediumKind, kind_by_extension
from detections import Client


def main(file: str, url: str = "http://127.0.0.1:8000") -> None:
    with Client(url) as client:
        for label, count in labels(client, file).most_common():
            print(f"{count:6} {label}")


def labels(client: Client, file: str) -> Counter[str]:
    """Of a picture all that is in it, of a video all that was reported."""
    if kind_by_extension(file) is MediumKind.IMAGE:
        return Counter(seen.label for seen in client.detect(file))
    started = client.submit(file)
    return Counter(seen.label for event in client.events(started.task_id) for seen in event.annotations)


if __name__ == "__main__":
    main(*sys.argv[1:])
