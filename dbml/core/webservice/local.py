"""A service on this machine, for trying things out."""

from __future__ import annotations

from typing import Any

from dbml.core.webservice.deployment import WebserviceDeploymentConfiguration
from dbml.core.webservice.webservice import Webservice


class LocalWebservice(Webservice):
    """A service that was deployed with a port of this machine, or with no configuration at all."""

    _compute_type = "Local"

    @staticmethod
    def deploy_configuration(
        port: int | None = None, *, target: str | None = None, **settings: Any
    ) -> WebserviceDeploymentConfiguration:
        """Return what a local service asks for.

        port: of 127.0.0.1; None: any that is free.  target: docker, process or compose; None: docker where an engine can build
        here, else process.  settings: more, by `dbml.deploy`'s config.
        """
        return WebserviceDeploymentConfiguration("Local", config={"port": port, **settings}, target=target)

    @property
    def port(self) -> int | None:
        """Return the port that it listens at, None before it does."""
        from urllib.parse import urlsplit

        return None if self.scoring_uri is None else urlsplit(self.scoring_uri).port

    def reload(self, wait: bool = False) -> None:
        """Load the model and its score.py again."""
        self.update(wait=wait)
