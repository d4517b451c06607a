"""What a client says to the database: public SQL functions and views, as the user's own role, one module a noun.

Every function takes an open psycopg connection in autocommit mode; rights are the database's to decide.  What the
worker writes is in `dbml.store.runs`.
"""
