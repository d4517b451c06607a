"""`dbml demo`."""


def demo() -> None:
    """Show it."""
