"""The runner: one supervising process a service, which keeps the scoring app up and tells the database how it is.

`runner` is the loop: what is wanted (`dbml.deploy`, `dbml.update_service`), what runs, what is said of it.  `plans` reads from
the database what a service is made of, `interpreters` finds the Python that its lock wants, and `contract` says what a target
is: `processes`, `containers`, `composing`, `clusters`.  The runner alone has the database's credentials; what it starts gets
files, a socket or a port, and keys.
"""
