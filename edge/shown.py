"""Which events are news: every report once, however often it was published."""

from collections import OrderedDict

import msgspec

from contracts.events import AnyEvent, FrameDetected, TaskEnded, TaskProgressed

OVERTAKEN_MAX = 64
"""Numbers of one task that are waited for: four times what a consumer has on its way (`IN_FLIGHT_MAX`)."""


class _Last(msgspec.Struct, frozen=True, gc=False):
    """What was shown last of a task."""

    epoch: int
    sequence: int
    percent: int = 0
    overtaken: frozenset[int] = frozenset()
    """Lower numbers that have not come yet."""
    has_ended: bool = False

    def after(self, report: FrameDetected, percent: int) -> "_Last":
        """What is remembered once that report was shown, which may have been overtaken by others."""
        epoch, sequence = report.epoch, report.sequence
        if sequence == self.sequence + 1:  # nearly always
            return msgspec.structs.replace(self, epoch=epoch, sequence=sequence, percent=percent)
        overtaken = self.overtaken - {sequence}
        if self.sequence:  # the first that is seen of a task may be its tenth
            skipped = range(max(self.sequence + 1, sequence - OVERTAKEN_MAX), sequence)
            overtaken = frozenset(sorted(overtaken.union(skipped))[-OVERTAKEN_MAX:])
        return _Last(epoch=epoch, sequence=max(sequence, self.sequence), percent=percent, overtaken=overtaken)


class Shown:
    """Remembers the last epoch, sequence and percent of the `tasks_max` tasks that spoke most recently."""

    def __init__(self, *, tasks_max: int) -> None:
        self._tasks_max = tasks_max
        self._last: OrderedDict[str, _Last] = OrderedDict()

    def __len__(self) -> int:
        return len(self._last)

    def admit(self, event: AnyEvent) -> AnyEvent | None:
        """The event as it is shown if it is news, which from now on it is not; None if it is none.

        Not news: what an older taker says, a sequence that was shown, anything after the end. The end itself is news
        whoever published it, since only one taker could have written it down (`end.json`). A report that others have
        overtaken on its way, as happens where the leader of a cluster dies, is news.

        No percent is lower than one that was shown: a taker begins at a checkpoint, behind what was told of the way.
        """
        last = self._last.get(event.task_id, _Last(epoch=0, sequence=0))
        if last.has_ended:
            return None
        percent, is_news = max(last.percent, event.percent), True
        match event:
            case TaskEnded():
                now = _Last(epoch=event.epoch, sequence=event.sequence, has_ended=True)
            case _ if event.epoch < last.epoch:
                return None
            case TaskProgressed():
                now = msgspec.structs.replace(last, epoch=event.epoch, percent=percent)
            case FrameDetected():
                is_news = event.sequence > last.sequence or event.sequence in last.overtaken
                now = last.after(event, percent)
        self._remember(event.task_id, now)
        if not is_news:
            return None
        return event if event.percent == percent else msgspec.structs.replace(event, percent=percent)

    def _remember(self, task_id: str, last: _Last) -> None:
        self._last[task_id] = last
        self._last.move_to_end(task_id)
        if len(self._last) > self._tasks_max:
            self._last.popitem(last=False)
