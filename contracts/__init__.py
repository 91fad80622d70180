"""What the services say to each other: structs and names, nothing else.

Read in this order: `media` (what is looked at), `options` (how), `commands` (the asking), `detections`, `shots` and `events`
(the answers), `failures` (what may go wrong), `wire` (how all of it becomes bytes), `topology` (where in RabbitMQ the
bytes go), `storage` and `results` (what lies on the shared disk), `whole_files` (how it gets there),
`posts` (what the Annotations service is told), `settings` (how a process is configured), `allocator` (what it keeps of memory).
"""
