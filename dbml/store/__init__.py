"""Tables and the statements on them: the only code that knows a table."""
