"""Bytes in, events out over HTTP; it knows no pixel.

Read in this order: `upload` (bytes arrive), `storage` (they are written), `detect` (the routes), `outbox` (commands leave),
`feed` (events arrive), `stream` (listeners), `tasks`, `health`, `failures`, `janitor`, and `app`, which wires all of it.
"""
