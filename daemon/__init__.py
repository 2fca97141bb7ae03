"""The service on a device: obeys the core; owns sockets, the executor thread, the journal and systemd."""
