"""The half of the edge that speaks with the Annotations service, wired."""

import os
import secrets
import socket

from contracts.storage import Layout
from edge.annotations import Annotations
from edge.media_by_id import MediaById
from edge.media_roots import MediaRoots
from edge.outbox import Outbox
from edge.owners import Owners
from edge.parts import IntakeParts
from edge.post_sending import PostSender
from edge.posting import Poster
from edge.posts import MediaTypes, Posts
from edge.settings import EdgeSettings
from edge.telling import PosterParts
from edge.tokens import Tokens


class AnnotationsParts:
    """One of each, shared by all requests of an edge."""

    def __init__(self, settings: EdgeSettings, *, annotations: Annotations, tokens: Tokens) -> None:
        self._settings = settings
        self._tokens = tokens
        self._roots = MediaRoots(settings)
        self.annotations = annotations
        self.owners = Owners(annotations, tokens)

    def poster(self, outbox: Outbox) -> Poster:
        """Who tells the service what becomes of owned media."""
        media_types = MediaTypes(image=self._settings.media_type_image, video=self._settings.media_type_video)
        posts = Posts(Layout(self._settings.storage), roots=self._roots, media_types=media_types)
        return Poster(
            PosterParts(
                settings=self._settings,
                posts=posts,
                sender=PostSender(annotations=self.annotations, tokens=self._tokens, outbox=outbox),
                edge=f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}",
            )
        )

    def media_by_id(self, intake: IntakeParts) -> MediaById:
        """What starts tasks on media of the service."""
        return MediaById(
            annotations=self.annotations,
            roots=self._roots,
            guard=intake.guard,
            tokens=self._tokens,
            announcer=intake.announcer,
        )
