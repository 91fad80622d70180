"""A model that finds shot boundaries: TransNet V2 or one of its layout, known by its shapes and by what it answers."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from contracts.failures import Failure, FailureCode
from contracts.settings import Provider
from engine.opening import open_runtime
from engine.runtime import Runtime, Tensor, TensorSpec
from engine.shot_windows import HEIGHT, MARGIN, STEP, WIDTH, WINDOW, Window
from engine.sources import ModelSource, name_of

DROP_IN, SHIPPED = "transnetv2.onnx", "shots-small.onnx"
INPUT = (WINDOW, HEIGHT, WIDTH, 3)
"""Of one entry of a batch."""
INPUT_DTYPES = ("uint8", "float32")
"""Both 0..255."""
ROWS_MAX = 64
"""Windows of an inference where the model states how many: 100 MB as float32, and all are computed for the sake of one."""

Odds = NDArray[np.float32]


class ShotCard(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model that finds boundaries."""

    name: str
    engine_type: str
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    boundary_at: int
    """Which output says that a transition is at its middle (`single_frame`)."""
    transition_at: int
    """Which one says that a frame is anywhere in a transition (`many_hot`); the same if there is but one."""
    has_logits: bool
    """True: the outputs still have to pass a sigmoid."""


class ShotModel:
    """A loaded model. `look` may be called by many threads."""

    def __init__(self, runtime: Runtime, card: ShotCard) -> None:
        self.card = card
        self._runtime = runtime

    @property
    def rows_best(self) -> int | None:
        """Windows of a call that uses the runtime well: all that its shape has, any number where it gathers, else one."""
        return self.card.input.shape[0] or (None if self._runtime.gathers else 1)

    def look(self, windows: Sequence[Window]) -> tuple[Odds, Odds]:
        """Boundary and transition, float32[N, 50] each, 0..1, of the middle frames of N windows.

        Raises `Failure(inference_failed)`, also for what is not finite or not shaped as when the model was loaded.
        """
        card = self.card
        most = card.input.shape[0] or len(windows)
        parts = [self._infer(windows[start : start + most]) for start in range(0, len(windows), most)]
        boundary, transition = (np.concatenate(same) for same in zip(*parts, strict=True))
        if not (np.isfinite(boundary).all() and np.isfinite(transition).all()):
            raise Failure(FailureCode.INFERENCE_FAILED, "the model's outputs are not finite")
        return (_sigmoid(boundary), _sigmoid(transition)) if card.has_logits else (boundary, transition)

    def close(self) -> None:
        """Free the model; nothing else is called afterwards."""
        self._runtime.close()

    def _infer(self, windows: Sequence[Window]) -> tuple[Odds, Odds]:
        """What is said of the middle frames, float32[N, 50] each."""
        card = self.card
        tensor = _tensor(windows, rows=card.input.shape[0] or len(windows), dtype=card.input.dtype)
        outputs = self._runtime.infer({card.input.name: tensor})
        return _middle(outputs, card.boundary_at, len(windows)), _middle(outputs, card.transition_at, len(windows))


def shot_model_file(folders: Sequence[Path]) -> Path:
    """The model that serves unless another one is named: the official weights where somebody put them, else the shipped ones.

    Raises `Failure(model_missing)`.
    """
    for name in (DROP_IN, SHIPPED):
        for folder in folders:
            if (folder / name).is_file():
                return folder / name
    raise Failure(FailureCode.MODEL_MISSING, f"neither {DROP_IN} nor {SHIPPED} is there")


def open_shot_model(source: ModelSource, *, provider: Provider = "auto") -> ShotModel:
    """The model in a file or of a server, tried once on a cut.

    Raises `Failure`: `model_missing`, `model_corrupt`, `model_not_a_detector` naming the shapes seen, and
    `engine_unavailable` as `engine.opening.open_runtime`.
    """
    runtime = open_runtime(source, provider=provider)
    try:
        return ShotModel(runtime, _recognised(name_of(source), runtime))
    except Failure:
        runtime.close()
        raise


def _recognised(name: str, runtime: Runtime) -> ShotCard:
    inputs = runtime.inputs
    if len(inputs) != 1 or inputs[0].shape[1:] != INPUT or inputs[0].dtype not in INPUT_DTYPES:
        raise _refused(runtime, f"it has no single input {list(INPUT)} of {' or '.join(INPUT_DTYPES)}")
    rows = inputs[0].shape[0] or 1
    if rows > ROWS_MAX:
        raise _refused(runtime, f"it takes {rows} windows at a time, more than {ROWS_MAX}")
    tried = np.zeros((rows, *INPUT), inputs[0].dtype)
    tried[:, WINDOW // 2 :] = 255
    outputs = runtime.infer({inputs[0].name: tried})
    usable = [at for at, output in enumerate(outputs) if _is_per_frame(output)]
    if not usable:
        raise _refused(runtime, f"none of its outputs is one number for {WINDOW} or {STEP} frames")
    names = [spec.name.lower() for spec in runtime.outputs]
    boundary_at = next((at for at in usable if "single" in names[at]), usable[0])
    others = [at for at in usable if at != boundary_at]
    transition_at = next(
        (at for at in others if "many" in names[at] or "all" in names[at]), others[0] if others else boundary_at
    )
    answers = np.concatenate([outputs[at].ravel() for at in {boundary_at, transition_at}])
    return ShotCard(
        name=name,
        engine_type=runtime.engine_type,
        input=inputs[0],
        outputs=runtime.outputs,
        boundary_at=boundary_at,
        transition_at=transition_at,
        has_logits=bool((answers < 0).any() or (answers > 1).any()),  # most frames of the picture tried are no cut
    )


def _tensor(windows: Sequence[Window], *, rows: int, dtype: str) -> Tensor:
    """[rows, 100, 27, 48, 3]; what is missing repeats the last window. A single window is not copied."""
    if len(windows) == rows == 1:
        return windows[0][np.newaxis].astype(dtype, copy=False)
    tensor = np.empty((rows, *INPUT), dtype)
    tensor[: len(windows)] = windows
    tensor[len(windows) :] = windows[-1]
    return tensor


def _is_per_frame(output: Tensor) -> bool:
    """float[B, T] or float[B, T, 1], T the frames of a window or the middle ones of it."""
    match output.shape:
        case (_, frames) | (_, frames, 1):
            return output.dtype.kind == "f" and frames in {WINDOW, STEP}
        case _:
            return False


def _middle(outputs: Sequence[Tensor], at: int, count: int) -> Odds:
    """float32[count, 50] of that output, whose first rows are those of the windows. Raises `Failure(inference_failed)`."""
    output = outputs[at] if at < len(outputs) else np.empty(0)
    if not _is_per_frame(output) or len(output) < count:
        raise Failure(
            FailureCode.INFERENCE_FAILED,
            f"outputs of another shape than when the model was loaded: {list(output.shape)} for {count} windows",
        )
    frames = output[:count].reshape(count, -1)
    middle = frames if frames.shape[1] == STEP else frames[:, MARGIN : MARGIN + STEP]
    return middle.astype(np.float32, copy=False)


def _sigmoid(logits: Odds) -> Odds:
    return (0.5 * (1 + np.tanh(0.5 * logits))).astype(np.float32)  # without an overflow at either end


def _refused(runtime: Runtime, why: str) -> Failure:
    seen = ", ".join(f"{spec.name} {spec.dtype}{list(spec.shape)}" for spec in (*runtime.inputs, *runtime.outputs))
    return Failure(FailureCode.MODEL_NOT_A_DETECTOR, f"no model for shot boundaries: {why}; seen: {seen}")
