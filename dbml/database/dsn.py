"""The former place of `dbml.dsn`, from which it is imported now."""

from dbml.dsn import VARIABLES, find_dsn, libpq_environment, make_uri, parse, without_password

__all__ = ["VARIABLES", "find_dsn", "libpq_environment", "make_uri", "parse", "without_password"]
