"""The database: an embedded server, install, upgrade, verify, and where the DSN comes from."""
