"""The client of a Loader, and a store of models with one, against a real server whose faults are switched."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from consumers.engine_room import EngineRoom
from consumers.follower import Follower
from consumers.loader import Loader, LoaderLimits, Refused
from consumers.model_store import ModelStore
from contracts.events import ActiveModel
from contracts.failures import Failure, FailureCode
from detections.rabbitmq import free_port
from engine.batching import Workers
from engine.trial import Trials
from tests.loader_service import LoaderService
from tests.tiny_models import put_weights_beside, write_colour_model, write_script
from tests.unit.small_disk import fill, small_disk

__all__ = ["small_disk"]

pytestmark = pytest.mark.e2e

PATIENT_S, IMPATIENT_S = 60.0, 0.5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoaderService]:
    service = LoaderService(tmp_path_factory.mktemp("loader"))
    service.start()
    yield service
    service.stop()


@pytest.fixture
def service(server: LoaderService) -> LoaderService:
    server.fault("none")
    for path in server.folder.iterdir():
        path.unlink()
    write_script(server.folder / "colours.json")
    return server


def loader_of(service: LoaderService, folder: Path, *, url: str | None = None, total_s: float = PATIENT_S) -> Loader:
    return Loader(url or service.url, folder=folder, limits=LoaderLimits(total_s=total_s, bytes_max=100_000))


def store_of(service: LoaderService, folder: Path, *, url: str | None = None, total_s: float = PATIENT_S) -> ModelStore:
    loader = loader_of(service, folder, url=url, total_s=total_s)
    return ModelStore(folder, trials=Trials(folder / "tried"), default="colours.json", loader=loader)


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# One file


async def test_a_file_comes_whole_and_over_the_one_before(service: LoaderService, tmp_path: Path) -> None:
    (tmp_path / "colours.json").write_text("old")
    path = await loader_of(service, tmp_path).fetch("colours.json")

    assert path == tmp_path / "colours.json"
    assert path.read_bytes() == (service.folder / "colours.json").read_bytes()
    assert service.asked()[-1] == "load models/colours.json"
    assert visible(tmp_path) == {"colours.json"}


async def test_a_file_is_sent_under_its_name(service: LoaderService, tmp_path: Path) -> None:
    (tmp_path / "m.cc_9.0_sm_132.engine").write_bytes(b"plan" * 100)
    await loader_of(service, tmp_path).upload(tmp_path / "m.cc_9.0_sm_132.engine")

    assert (service.folder / "m.cc_9.0_sm_132.engine").read_bytes() == b"plan" * 100
    assert service.asked()[-1] == "upload models/m.cc_9.0_sm_132.engine"


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ("500", FailureCode.MODEL_MISSING, "500 the disk is on fire"),
        ("redirect", FailureCode.MODEL_MISSING, "307"),
        ("busy", FailureCode.ENGINE_UNAVAILABLE, "503"),
        ("slow", FailureCode.ENGINE_UNAVAILABLE, "not done within 0.5 s"),
        ("drip", FailureCode.ENGINE_UNAVAILABLE, "not done within 0.5 s"),
        ("truncated", FailureCode.ENGINE_UNAVAILABLE, "peer closed connection"),
        ("too_large", FailureCode.MODEL_CORRUPT, "more than 100000 bytes"),
        ("other_content", FailureCode.MODEL_CORRUPT, "expected 00000"),
    ],
)
async def test_a_fault_leaves_the_file_that_was_there(
    service: LoaderService, tmp_path: Path, fault: str, code: FailureCode, said: str
) -> None:
    (tmp_path / "colours.json").write_text("old")
    service.fault(fault)
    total_s = IMPATIENT_S if fault in {"slow", "drip"} else PATIENT_S
    with pytest.raises(Failure, match=said) as failed:
        await loader_of(service, tmp_path, total_s=total_s).fetch("colours.json", sha256="0" * 64)

    assert failed.value.code is code
    assert isinstance(failed.value, Refused) is (fault in {"500", "redirect"})
    assert visible(tmp_path) == {"colours.json"}
    assert (tmp_path / "colours.json").read_text() == "old"


async def test_a_loader_that_is_away_is_said(service: LoaderService, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"x")
    loader = loader_of(service, tmp_path, url=nowhere())
    for asked in (loader.fetch("a.onnx"), loader.upload(tmp_path / "a.onnx")):
        with pytest.raises(Failure, match=r"the Loader did not answer with a\.onnx") as failed:
            await asked
        assert failed.value.code is FailureCode.ENGINE_UNAVAILABLE


@pytest.mark.parametrize("name", ["../a.onnx", "/etc/passwd", "a/b", "..", "", "a\\b", "a\0b", "a\nb"])
async def test_a_name_stays_in_its_folder(service: LoaderService, tmp_path: Path, name: str) -> None:
    before = service.asked()
    with pytest.raises(Failure) as failed:
        await loader_of(service, tmp_path).fetch(name)

    assert failed.value.code is FailureCode.FORBIDDEN_PATH
    assert service.asked() == before


# A store with a Loader


async def test_a_named_model_comes_with_what_lies_beside_it(service: LoaderService, tmp_path: Path) -> None:
    (service.folder / "classes.json").write_text('[{"Id": 0, "Name": "Red"}]')
    found = await store_of(service, tmp_path).find(None)

    assert (found.source, found.copied_since) == (tmp_path / "colours.json", None)
    assert (tmp_path / "classes.json").exists()


async def test_a_model_is_fetched_also_where_its_side_file_came_and_it_did_not(
    service: LoaderService, tmp_path: Path
) -> None:
    """A consumer may be killed between the two; a name without an extension is the model's."""
    write_colour_model(service.folder / "a.onnx")
    for folder in (service.folder, tmp_path):
        (folder / "a.json").write_text('{"description": "of a.onnx"}')
    found = await store_of(service, tmp_path).find(ActiveModel(file="a"))

    assert (found.source, found.copied_since) == (tmp_path / "a.onnx", None)


@pytest.mark.parametrize("fault", ["500", "garbage", "drip"])
async def test_what_the_loader_does_not_give_is_served_from_the_copy_with_a_warning(
    service: LoaderService, tmp_path: Path, fault: str
) -> None:
    before = (await store_of(service, tmp_path).find(None)).source.read_bytes()
    service.fault(fault)
    total_s = IMPATIENT_S if fault == "drip" else PATIENT_S
    found = await store_of(service, tmp_path, total_s=total_s).find(None)

    assert found.source.read_bytes() == before
    assert found.copied_since
    service.fault("none")
    assert (await store_of(service, tmp_path).find(None)).copied_since is None


async def test_a_copy_that_is_no_good_does_not_hide_that_the_loader_is_away(
    service: LoaderService, tmp_path: Path
) -> None:
    """The failure of one who is away is tried again, that of a broken file is not."""
    (tmp_path / "colours.json").write_text("{}")
    with pytest.raises(Failure, match=r"did not answer.*the copy here does not serve: .*no script") as failed:
        await store_of(service, tmp_path, url=nowhere()).find(None)

    assert failed.value.code is FailureCode.ENGINE_UNAVAILABLE


async def test_a_copy_serves_where_the_disk_takes_no_other(service: LoaderService, small_disk: Path) -> None:
    await store_of(service, small_disk).find(None)
    fill(small_disk)
    found = await store_of(service, small_disk).find(None)

    assert found.source == small_disk / "colours.json"
    assert found.copied_since is not None
    assert "No space left" in found.copied_since


async def test_a_model_is_not_taken_without_a_side_file_that_was_only_not_to_be_had_now(
    service: LoaderService, tmp_path: Path
) -> None:
    """It would be shown its pixels in another way than its side file says, and nobody would hear of it."""
    write_colour_model(service.folder / "a.onnx")
    (service.folder / "a.json").write_text('{"input": {"colour": "BGR"}}')
    service.fault("busy_beside")
    with pytest.raises(Failure, match=r"does not give a\.json: 503") as failed:
        await store_of(service, tmp_path).find(ActiveModel(file="a.onnx"))

    assert failed.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert not (tmp_path / "a.onnx").exists()


async def test_without_a_copy_a_loader_that_is_away_is_a_failure(service: LoaderService, tmp_path: Path) -> None:
    with pytest.raises(Failure) as failed:
        await store_of(service, tmp_path, url=nowhere()).find(None)

    assert failed.value.code is FailureCode.ENGINE_UNAVAILABLE
    assert visible(tmp_path) == set()


async def test_a_choice_that_lies_elsewhere_comes_from_the_loader(service: LoaderService, tmp_path: Path) -> None:
    there = store_of(service, tmp_path / "there")
    (tmp_path / "classes.json").write_text('[{"Id": 0, "Name": "Scarlet"}]')
    active = there.put(write_script(tmp_path / "colours.json", tolerance=7))
    await there.share(active)
    assert service.asked()[-2:] == ["upload models/classes.json", "upload models/colours.json"]
    here = store_of(service, tmp_path / "here")
    found = await here.find(active)

    assert found.source == tmp_path / "here" / active.file
    assert found.source.read_bytes() == (tmp_path / "colours.json").read_bytes()
    assert found.source.with_name("classes.json").read_bytes() == (tmp_path / "classes.json").read_bytes()
    assert visible(tmp_path / "here") == {active.file.split("/")[0]}, "it may be the one before: what serves is kept"


async def test_a_choice_that_is_broken_here_comes_from_the_loader_again(service: LoaderService, tmp_path: Path) -> None:
    there = store_of(service, tmp_path / "there")
    active = there.put(put_weights_beside(write_colour_model(tmp_path / "a.onnx")))
    await there.share(active)
    here = store_of(service, tmp_path / "here")
    path = (await here.find(active)).source
    path.write_bytes(b"half")
    again = (await here.find(active)).source
    path.with_name("weights.bin").unlink()
    once_more = (await here.find(active)).source

    assert path == again == once_more
    assert path.read_bytes() == (tmp_path / "a.onnx").read_bytes()
    assert path.with_name("weights.bin").read_bytes() == (tmp_path / "weights.bin").read_bytes()


async def test_weights_beside_a_model_come_from_the_loader_too(service: LoaderService, tmp_path: Path) -> None:
    """Of a choice, and of a model that is only named."""
    there = store_of(service, tmp_path / "there")
    active = there.put(put_weights_beside(write_colour_model(tmp_path / "a.onnx")))
    await there.share(active)
    chosen = await store_of(service, tmp_path / "here").find(active)
    named = await store_of(service, tmp_path / "named").find(ActiveModel(file="a.onnx"))

    for found in (chosen, named):
        assert found.copied_since is None
        assert found.source.with_name("weights.bin").read_bytes() == (tmp_path / "weights.bin").read_bytes()


async def test_a_choice_whose_side_files_were_replaced_at_the_loader_is_refused(
    service: LoaderService, tmp_path: Path
) -> None:
    there = store_of(service, tmp_path / "there")
    (tmp_path / "classes.json").write_text('[{"Id": 0, "Name": "Scarlet"}]')
    active = there.put(write_script(tmp_path / "colours.json", tolerance=7))
    await there.share(active)
    (service.folder / "classes.json").write_text('[{"Id": 0, "Name": "Somebody else\'s"}]')

    with pytest.raises(Failure, match="other side files"):
        await store_of(service, tmp_path / "here").find(active)


async def test_choices_in_a_row_are_followed_and_found_again_by_a_consumer_with_a_folder_of_its_own(
    service: LoaderService, tmp_path: Path
) -> None:
    there, here = store_of(service, tmp_path / "there"), store_of(service, tmp_path / "here")
    room = EngineRoom(models=here, workers=partial(Workers, count=1))
    follower = Follower(room, here)
    await follower.begin()
    following = asyncio.create_task(follower.run())
    try:
        for name in ("one", "two", "one"):
            active = there.put(write_script(tmp_path / f"{name}.json", tolerance=len(name)))
            await there.share(active)
            there.activate(active)
            follower.hear(active)
            async with asyncio.timeout(PATIENT_S):
                while here.active() != active:
                    await asyncio.sleep(0.01)
            assert room.model is not None
            assert room.model.name == name
    finally:
        following.cancel()
        room.close()
