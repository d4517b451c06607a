"""Machine-learning services inside PostgreSQL."""

__version__ = "0.1.0"
