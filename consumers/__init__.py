"""Commands in, events out over AMQP; the only place where sync meets async.

Read in this order: `detect` (a command's way), `leases` (who works on it), `offload` (out of the thread, bounded),
`checkpoints` (results before events), `engine_room` (the engine's life), and `app`, which wires all of it.
"""
