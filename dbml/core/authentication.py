"""Ways to log in that programs name.  PostgreSQL knows its users: each is accepted, and has no effect.

The user is that of the DSN, PGUSER or the operating system, its password that of PGPASSWORD or ~/.pgpass.  Nothing that
is given here is kept.
"""

from __future__ import annotations

from typing import Any


class AbstractAuthentication:
    """A way to log in; it holds nothing."""

    def get_authentication_header(self) -> dict[str, str]:
        """Return nothing: no request is sent."""
        return {}

    def get_token(self, *scopes: str, **kwargs: Any) -> Any:
        """Refuse: there is no token; the database logs its users in."""
        raise NotImplementedError("there is no token; the DSN, PGPASSWORD or ~/.pgpass log the user in")


class InteractiveLoginAuthentication(AbstractAuthentication):
    """Asks nothing: the database's user is that of the DSN."""

    def __init__(self, force: bool = False, tenant_id: str | None = None, cloud: str | None = None) -> None:
        self.tenant_id = tenant_id


class AzureCliAuthentication(AbstractAuthentication):
    """Asks nothing: the database's user is that of the DSN."""

    def __init__(self, cloud: str | None = None, tenant_id: str | None = None) -> None:
        self.tenant_id = tenant_id


class MsiAuthentication(AbstractAuthentication):
    """Asks nothing: the database's user is that of the DSN."""

    def __init__(self, identity_config: Any = None, cloud: str | None = None) -> None:
        return


class ServicePrincipalAuthentication(AbstractAuthentication):
    """Takes a principal and its password, and keeps neither: a role of PostgreSQL takes its place."""

    def __init__(
        self, tenant_id: str, service_principal_id: str, service_principal_password: str, cloud: str | None = None,
        _enable_caching: bool = True,
    ) -> None:  # fmt: skip
        self.tenant_id = tenant_id


class TokenAuthentication(AbstractAuthentication):
    """Takes a function that makes tokens, and never calls it."""

    def __init__(self, get_token_for_audience: Any, cloud: str | None = None) -> None:
        return


class ArmTokenAuthentication(AbstractAuthentication):
    """Takes a token, and does not keep it."""

    def __init__(self, arm_access_token: str, **kwargs: Any) -> None:
        return
