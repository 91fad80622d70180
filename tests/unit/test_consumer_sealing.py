"""Waiting for the end of an upload that has been read to its end."""

import asyncio
import threading
from pathlib import Path

import pytest

from consumers import sealing
from consumers.sealing import wait_for_seal
from contracts.failures import Failure, FailureCode
from contracts.storage import Layout
from tests.broker.consumer_stage import Upload

TASK = "0b8b8a2e-0000-4000-8000-000000000001"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "POLL_S", 0.0)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


async def test_the_seal_is_waited_for(layout: Layout) -> None:
    upload = Upload(layout, TASK)
    waiting = asyncio.create_task(wait_for_seal(layout.body(TASK), stop=threading.Event()))
    await asyncio.sleep(0)
    assert not waiting.done()
    upload.seal("hash")
    seal = await waiting

    assert seal is not None
    assert seal.media_id == "hash"


async def test_an_upload_that_breaks_off_behind_the_last_frame_has_failed(layout: Layout) -> None:
    Upload(layout, TASK).abort()

    with pytest.raises(Failure) as failed:
        await wait_for_seal(layout.body(TASK), stop=threading.Event())
    assert failed.value.code is FailureCode.UPLOAD_ABORTED


async def test_a_silent_writer_is_given_up(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "SILENCE_MAX_S", 0.0)
    Upload(layout, TASK)

    with pytest.raises(Failure) as failed:
        await wait_for_seal(layout.body(TASK), stop=threading.Event())
    assert failed.value.code is FailureCode.UPLOAD_ABANDONED


async def test_a_folder_that_is_gone_has_no_seal(layout: Layout) -> None:
    assert await wait_for_seal(layout.body(TASK), stop=threading.Event()) is None


async def test_who_is_stopped_waits_no_longer(layout: Layout) -> None:
    Upload(layout, TASK)
    stop = threading.Event()
    waiting = asyncio.create_task(wait_for_seal(layout.body(TASK), stop=stop))
    await asyncio.sleep(0)
    stop.set()

    assert await waiting is None
