"""How stored pixels become displayed ones: the eight turns that a display matrix can ask for."""

from collections.abc import Sequence

import msgspec
import numpy as np

from engine.picture import Crop, Rgb


class Size(msgspec.Struct, frozen=True):
    """Pixels."""

    width: int
    height: int


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """Rows and columns are swapped first, then the result is mirrored."""

    is_transposed: bool = False
    is_flipped_x: bool = False
    """Left and right change places, after transposing."""
    is_flipped_y: bool = False
    """Top and bottom change places, after transposing."""

    def size(self, size: Size) -> Size:
        """The displayed size of a stored one, and the other way round."""
        return Size(size.height, size.width) if self.is_transposed else size

    def crop(self, crop: Crop, *, displayed: Size) -> Crop:
        """The stored part of the picture that is displayed as `crop` of a picture of size `displayed`."""
        x = displayed.width - crop.x - crop.width if self.is_flipped_x else crop.x
        y = displayed.height - crop.y - crop.height if self.is_flipped_y else crop.y
        if self.is_transposed:
            return Crop(x=y, y=x, width=crop.height, height=crop.width)
        return Crop(x=x, y=y, width=crop.width, height=crop.height)

    def apply(self, stored: Rgb) -> Rgb:
        """uint8[H, W, 3] as displayed, contiguous; the same array if there is nothing to do."""
        turned = stored.transpose(1, 0, 2) if self.is_transposed else stored
        if self.is_flipped_x:
            turned = turned[:, ::-1]
        if self.is_flipped_y:
            turned = turned[::-1]
        return np.ascontiguousarray(turned)


UPRIGHT = Turn()


def turn_by_display_matrix(matrix: Sequence[int]) -> Turn:
    """The turn of FFmpeg's 3 x 3 display matrix (x' = a x + c y, y' = b x + d y), to the nearest quarter."""
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(is_flipped_x=a < 0, is_flipped_y=d < 0)
    return Turn(is_transposed=True, is_flipped_x=c < 0, is_flipped_y=b < 0)
