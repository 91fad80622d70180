"""Commands in, events out over AMQP; the only place where sync meets async.

Read in this order: `detect` (a command's way), `roots` (where its medium lies), `leases` (who works on it), `attempt` (one
holder's work, with `narrator` for its words and `ending` for its end), `checkpoints` (results before events),
`offload` (out of the thread, bounded), `outgoing` and `lane` (to the broker, in order), `engine_room` (the engine's life),
and `settings` and `app`, which wire all of it.
"""
