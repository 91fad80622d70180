"""A consumer without its connections: a scripted model for objects, a small one for shots, a broker that only remembers."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from consumers.attempt import Desk
from consumers.detect import Detecting
from consumers.engine_room import EngineRoom
from consumers.incoming import Delivery
from consumers.leases import Leases
from consumers.media_limits import MediaLimits
from consumers.roots import Roots
from consumers.shot_room import LoadedShots, ShotRoom
from contracts import wire
from contracts.commands import AnyCommand
from contracts.failures import Failure
from contracts.storage import Layout
from engine.batching import Workers
from engine.detector import Detector
from engine.loading import load_detector
from engine.sources import ModelSource
from tests.cut_finder import CutFinder
from tests.unit.consumer_fakes import FakeBroker
from tests.unit.model_fakes import FakeModels


class Consumer:
    """A consumer without its connections."""

    def __init__(
        self,
        folder: Path,
        *,
        model: Path,
        name: str = "a",
        broker: FakeBroker | None = None,
        storage: Path | None = None,
        cuts: CutFinder | None = None,
        limits: MediaLimits | None = None,
        load: Callable[[ModelSource], Detector] = load_detector,
        leases: type[Leases] = Leases,
    ) -> None:
        self.folder = folder
        self.layout = Layout(storage or folder / "storage")
        self.layout.uploads.mkdir(parents=True, exist_ok=True)
        self.broker = broker or FakeBroker()
        models = FakeModels(model.parent, default=model.name)
        self.room = EngineRoom(models=models, workers=partial(Workers, count=1), load=load)
        self.cuts = cuts or CutFinder()
        self.shot_room = ShotRoom(self._load_cuts, cores=1)
        self.shot_loads = 0
        self.shot_failure: Failure | None = None
        self.hung_up = 0
        claims = leases(self.layout, owner=name)
        desk = Desk(layout=self.layout, leases=claims, sender=self.broker, ahead_max=4, limits=limits or MediaLimits())
        media_roots = Roots({"storage": self.layout.root, "images": folder})
        self.detecting = Detecting(desk, room=self.room, shot_room=self.shot_room, roots=media_roots, pictures_max=2)

    async def take(self, command: AnyCommand | bytes, *, is_redelivered: bool = False, is_worn: bool = False) -> None:
        body = command if isinstance(command, bytes) else wire.encode(command)
        await self.detecting.take(
            Delivery(body=body, is_redelivered=is_redelivered, is_worn=is_worn, hang_up=self._hang_up)
        )

    async def _hang_up(self) -> None:
        self.hung_up += 1

    def close(self) -> None:
        self.detecting.close()
        self.room.close()
        self.shot_room.close()

    def _load_cuts(self) -> LoadedShots:
        self.shot_loads += 1
        if self.shot_failure is not None:
            raise self.shot_failure
        return LoadedShots(name="cuts", engine_type="scripted", finder=self.cuts)
