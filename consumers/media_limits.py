"""What media may claim of themselves, from the settings."""

import msgspec

from consumers.settings import ConsumerSettings
from engine.images import PictureLimits
from engine.video import VideoLimits


class MediaLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Of both kinds."""

    picture: PictureLimits = PictureLimits()
    video: VideoLimits = VideoLimits()


def limits_of(settings: ConsumerSettings) -> MediaLimits:
    """Those of one consumer."""
    return MediaLimits(
        picture=PictureLimits(pixels_max=settings.image_pixels_max, side_px_max=settings.image_side_px_max),
        video=VideoLimits(
            pixels_max=settings.video_pixels_max,
            side_px_max=settings.video_side_px_max,
            duration_max_s=settings.video_duration_max_s,
            frames_max=settings.video_frames_max,
        ),
    )
