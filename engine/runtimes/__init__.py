"""The runtimes, each behind the protocol of `engine.runtime`; they do not know each other."""
