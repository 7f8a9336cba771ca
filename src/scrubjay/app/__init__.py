"""Settings, wiring, the daemon: the only room that picks parts."""
