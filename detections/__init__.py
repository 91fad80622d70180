"""What a person touches: the command line, the local stack, the Python client.

Read in this order: `cli` (the commands), `local` (everything on one machine), `rabbitmq` (the private broker), `client`.
"""
