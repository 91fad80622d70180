"""Which events are news: every report once, however often it was published."""

from collections import OrderedDict

import msgspec

from contracts.events import AnyEvent, TaskEnded, TaskProgressed


class _Last(msgspec.Struct, frozen=True, gc=False):
    """What was shown last of a task."""

    epoch: int
    sequence: int
    has_ended: bool = False


class Shown:
    """Remembers the last epoch and sequence of the `tasks_max` tasks that spoke most recently."""

    def __init__(self, *, tasks_max: int) -> None:
        self._tasks_max = tasks_max
        self._last: OrderedDict[str, _Last] = OrderedDict()

    def __len__(self) -> int:
        return len(self._last)

    def admit(self, event: AnyEvent) -> bool:
        """Whether the event is news; from now on it is not.

        Not news: what an older taker says, a sequence that was shown, anything after the end. The end itself is news
        whoever published it, since only one taker could have written it down (`end.json`).
        """
        last = self._last.get(event.task_id, _Last(epoch=0, sequence=0))
        if last.has_ended:
            return False
        match event:
            case TaskEnded():
                now = _Last(epoch=event.epoch, sequence=event.sequence, has_ended=True)
                is_news = True
            case _ if event.epoch < last.epoch:
                return False
            case TaskProgressed():
                now = _Last(epoch=event.epoch, sequence=last.sequence)
                is_news = True
            case _:
                is_news = event.sequence > last.sequence
                now = _Last(epoch=event.epoch, sequence=max(event.sequence, last.sequence))
        self._remember(event.task_id, now)
        return is_news

    def _remember(self, task_id: str, last: _Last) -> None:
        self._last[task_id] = last
        self._last.move_to_end(task_id)
        if len(self._last) > self._tasks_max:
            self._last.popitem(last=False)
