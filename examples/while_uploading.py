"""Detections of a video while it is still being uploaded.

    python examples/while_uploading.py street.mp4 [http://127.0.0.1:8000]

The listener is there before the first byte leaves, under a task id of our own choosing, so nothing is missed.
"""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator

from contracts.events import DetectionEvent
from detections import AsyncClient


async def main(file: str, url: str = "http://127.0.0.1:8000") -> None:
    task_id = str(uuid.uuid4())
    async with AsyncClient(url) as client, client.listen(task_id) as events:
        following = asyncio.create_task(follow(events))
        await client.submit(file, task_id=task_id, config={"frame_recognition_seconds": 0.5})
        print("uploaded")
        await following


async def follow(events: AsyncIterator[DetectionEvent]) -> None:
    """Print every report, and what it came to."""
    async for event in events:
        if event.annotations:
            print(f"{event.video_time}  {', '.join(seen.label for seen in event.annotations)}")
        elif event.counts is not None and event.sequence is not None:
            print(f"{event.media_status}: {event.counts.inferred} frames looked at, {event.counts.reported} reported")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
