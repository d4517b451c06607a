"""A web service: a row of dbml.services, what serves it, and HTTP to ask it."""

from __future__ import annotations

import builtins
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dbml import errors
from dbml.core.webservice import runners
from dbml.core.webservice.choice import target_for
from dbml.core.webservice.deployment import WebserviceDeploymentConfiguration, refuse_what_does_not_exist
from dbml.exceptions import WebserviceException
from dbml.store.client import services
from dbml.store.client.rows import Row, text_of

if TYPE_CHECKING:
    from dbml.core.model import Model
    from dbml.core.webservice.deploying import Served
    from dbml.core.workspace import Workspace

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
KEYS_S = 5.0  # in which what runs has read a new key
DELETE_S = 30.0
CALLED_S = 30.0  # in which who looks after services here takes one that it is called for


class Webservice:
    """A service of a workspace by its name; the object is of the class that it was deployed as.

    Raises: WebserviceException where there is none.
    """

    _compute_type = ""
    workspace: Workspace
    _row: Row
    _called_at: float | None = None  # when somebody who looks after services was called, rather than a runner started

    def __new__(cls, workspace: Workspace, name: str) -> Webservice:  # noqa: D102 - the class says it
        row = workspace._connection.do_again(services.find, workspace.name, name)
        if row is None:
            raise WebserviceException(
                f"WebserviceNotFound: no service {name!r} is in workspace {workspace.name!r}", hint="Webservice.list(workspace)"
            )
        if cls._compute_type and row["compute_type"] != cls._compute_type:
            raise WebserviceException(f"service {name!r} is one of {row['compute_type']}, not of {cls._compute_type}")
        return cls._of(workspace, row)

    @classmethod
    def _of(cls, workspace: Workspace, row: Row) -> Webservice:
        found = object.__new__(_class_of(row["compute_type"]))
        found.workspace, found._row = workspace, row
        return found

    def __repr__(self) -> str:
        return f"{type(self).__name__}(workspace={self.workspace!r}, name={self.name}, state={self._row['state']})"

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Return the name."""
        return str(self._row["name"])

    @property
    def compute_type(self) -> str:
        """Return Local, ACI or AKS, as it was deployed."""
        return str(self._row["compute_type"])

    @property
    def target(self) -> str:
        """Return what it runs as: process, docker, compose or kubernetes."""
        return str(self._row["target"])

    @property
    def state(self) -> str:
        """Return how it is at this moment: Transitioning, Unhealthy, Unschedulable, Failed or Healthy."""
        self.update_deployment_state()
        return str(self._row["state"])

    @property
    def scoring_uri(self) -> str | None:
        """Return where it answers, None before it does."""
        if self._row["scoring_uri"] is None:
            self.update_deployment_state()
        return text_of(self._row, "scoring_uri")

    @property
    def _address(self) -> tuple[str, int] | None:
        """Return where it listened when it was read last."""
        place = urlsplit(str(self._row["scoring_uri"] or ""))
        return (place.hostname, place.port) if place.hostname and place.port else None

    @property
    def swagger_uri(self) -> str | None:
        """Return where it describes itself."""
        return None if self.scoring_uri is None else text_of(self._row, "swagger_uri")

    @property
    def auth_enabled(self) -> bool:
        """Tell whether it asks for a key."""
        return bool(self._row["auth_enabled"])

    @property
    def error(self) -> str | None:
        """Return what is wrong with it at this moment, None where nothing is."""
        self.update_deployment_state()
        return text_of(self._row, "error")

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags."""
        return dict(self._row["tags"])

    @property
    def properties(self) -> dict[str, str]:
        """Return the properties, which do not change."""
        return dict(self._row["properties"])

    @property
    def description(self) -> str | None:
        """Return the description."""
        return text_of(self._row, "description")

    @property
    def image_id(self) -> str | None:
        """Return the image that it serves, name:version; None where it serves a model without one."""
        return text_of(self._row, "image")

    @property
    def models(self) -> builtins.list[Model]:
        """Return the models that it serves."""
        from dbml.core.model import Model

        return [Model(self.workspace, id=reference) for reference in self._row["models"]]

    @property
    def created_time(self) -> datetime:
        """Return when it was deployed first."""
        moment: datetime = self._row["created_at"]
        return moment

    @property
    def created_by(self) -> str:
        """Return the role that deployed it."""
        return str(self._row["created_by"])

    def serialize(self) -> dict[str, Any]:
        """Return what is known of it as JSON has it."""
        said = {key: value for key, value in self._row.items() if key != "log"}
        return dict(json.loads(json.dumps(said, default=str, ensure_ascii=False)))

    @staticmethod
    def list(
        workspace: Workspace, compute_type: Any = None, image_name: str | None = None, model_name: str | None = None,
        tags: Any = None, properties: Any = None, **ignored: Any,
    ) -> builtins.list[Webservice]:  # fmt: skip
        """Return the services of a workspace, those that fit all that is asked for.

        compute_type: Local, ACI, AKS, or one of the classes.  tags, properties: as of Model.
        """
        from dbml.core.model_lookup import asked_pairs

        wanted = getattr(compute_type, "_compute_type", compute_type)
        found = []
        for row in workspace._connection.do_again(services.list_all, workspace.name):
            names = [reference.rpartition(":")[0] for reference in row["models"]]
            fits = [
                wanted is None or str(wanted).upper() == row["compute_type"].upper(),
                image_name is None or (row["image"] or "").rpartition(":")[0] == image_name,
                model_name is None or model_name in names,
                *(
                    key in row[column] and value in (None, row[column][key])
                    for column, asked in (("tags", tags), ("properties", properties))
                    for key, value in (asked_pairs(asked) or {}).items()
                ),
            ]
            if all(fits):
                found.append(Webservice._of(workspace, row))
        return found

    # -- deploying -----------------------------------------------------------------------------------------------------

    @staticmethod
    def deploy_from_model(
        workspace: Workspace, name: str, models: Sequence[Model], image_config: Any = None,
        deployment_config: WebserviceDeploymentConfiguration | None = None, deployment_target: Any = None,
        overwrite: bool = False, show_output: bool = False,
    ) -> Webservice:  # fmt: skip
        """Deploy registered models with the score.py of an image's configuration; None: one is made for the model."""
        from dbml.core.webservice.deploying import deploy

        return deploy(workspace, name, models, image_config, deployment_config, deployment_target, overwrite, show_output)

    @staticmethod
    def deploy_from_image(
        workspace: Workspace, name: str, image: Any, deployment_config: WebserviceDeploymentConfiguration | None = None,
        deployment_target: Any = None, overwrite: bool = False, show_output: bool = False,
    ) -> Webservice:  # fmt: skip
        """Deploy an image of the workspace.

        image: an Image, or name:version.
        """
        from dbml.core.webservice.deploying import Served, begin

        reference = image if isinstance(image, str) else f"{image.name}:{image.version}"
        return begin(workspace, name, deployment_config, deployment_target, overwrite, show_output, Served(image=reference))

    @staticmethod
    def deploy(
        workspace: Workspace, name: str, model_paths: Sequence[str], image_config: Any,
        deployment_config: WebserviceDeploymentConfiguration | None = None, deployment_target: Any = None,
        overwrite: bool = False, show_output: bool = False,
    ) -> Webservice:  # fmt: skip
        """Register models from files, each by its file's name, and deploy them."""
        from pathlib import Path

        from dbml.core.model import Model

        found = [Model.register(workspace, path, Path(path).name) for path in model_paths]
        return Webservice.deploy_from_model(
            workspace, name, found, image_config, deployment_config, deployment_target, overwrite, show_output
        )

    @staticmethod
    def check_for_existing_webservice(workspace: Workspace, name: str, overwrite: bool = False, **ignored: Any) -> None:
        """Refuse a name that is taken.

        Raises: WebserviceException.
        """
        if not overwrite and workspace._connection.do_again(services.find, workspace.name, name) is not None:
            raise WebserviceException(
                f"service {name!r} exists in workspace {workspace.name!r}", hint="overwrite=True, or update it"
            )

    @classmethod
    def _begin(
        cls, workspace: Workspace, name: str, config: WebserviceDeploymentConfiguration, deployment_target: Any,
        overwrite: bool, served: Served,
    ) -> Webservice:  # fmt: skip
        """Ask for a service, and have it served."""
        refuse_what_does_not_exist(deployment_target)
        target = config.target or target_for(config.compute_type)
        if overwrite and config.target is None and (known := workspace._connection.do_again(services.find, workspace.name, name)):
            target = str(known["target"])  # what is replaced stays where it is, unless it is said otherwise
        try:
            workspace._connection.do(
                services.deploy, workspace.name, name, model=served.model, image=served.image, target=target,
                compute_type=config.compute_type, config={**config.config, **served.config}, auth_enabled=config.auth_enabled,
                description=config.description, tags=config.tags, properties=config.properties, overwrite=overwrite,
            )  # fmt: skip
        except errors.ServiceExists as error:
            raise WebserviceException(
                error.message, hint="overwrite=True, or Webservice(workspace, name).update(models=[…])"
            ) from None
        found = Webservice(workspace, name)
        found._serve()
        return found

    def _serve(self) -> None:
        """Start a runner here, where none serves it."""
        row = self._row
        served = row["node"] is not None and row["state"] != "Unhealthy"
        if served:
            return
        connection = self.workspace._connection
        call = (services.call_who_looks, runners.place(), self.workspace.name, self.name)
        if self.target == "process" and connection.do_again(*call):
            self._called_at = time.monotonic()
            return
        runners.start(connection.dsn, self.workspace.name, self.name)

    # -- its life ------------------------------------------------------------------------------------------------------

    def update_deployment_state(self) -> None:
        """Read it again.

        Raises: WebserviceException where it is gone.
        """
        row = self.workspace._connection.do_again(services.find, self.workspace.name, self.name)
        if row is None:
            raise WebserviceException(f"WebserviceNotFound: service {self.name!r} is deleted")
        self._row = row

    def wait_for_deployment(self, show_output: bool = False, timeout_sec: float | None = None) -> None:
        """Wait until what was asked for last answers.

        show_output: a point a second.  timeout_sec: None waits for as long as it takes.
        Raises: WebserviceException with the state, what is wrong and the log, where it will not answer.
        """
        until = None if timeout_sec is None else time.monotonic() + timeout_sec
        pause_s, shown = SHORTEST_PAUSE_S, time.monotonic()
        if show_output:
            print("Running", end="", flush=True)
        while True:
            self.update_deployment_state()
            row = self._row
            if row["serving_generation"] == row["generation"] and row["state"] == "Healthy":
                self._called_at = None
                break
            if self._called_at is not None and time.monotonic() - self._called_at > CALLED_S:
                self._called_at = None
                if row["node"] is None and row["state"] not in ("Failed", "Unschedulable"):
                    runners.start(self.workspace._connection.dsn, self.workspace.name, self.name)
            said = runners.ended(self.workspace._connection.dsn, self.workspace.name, self.name)
            if said is not None and row["state"] in ("Healthy", "Transitioning") and row["node"] is not None:
                said = None  # another runner serves it
            late = until is not None and time.monotonic() > until
            if row["failed_generation"] == row["generation"] or said is not None or late:
                if show_output:
                    print("\nFailed")
                why = row["error"] or said or "it takes longer than it may"
                raise WebserviceException(
                    f"Service deployment polling reached non-successful terminal state, current service state: {row['state']}\n"
                    f"{why}\n{row['log']}",
                    hint=f"Webservice(workspace, {self.name!r}).get_logs()",
                )
            if show_output and time.monotonic() - shown >= 1:
                print(".", end="", flush=True)
                shown = time.monotonic()
            time.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 1.3)
        if show_output:
            print(f'\nSucceeded\n{self.compute_type} service creation operation finished, operation "Succeeded"')

    def get_logs(self, num_lines: int = 5000, init: bool = False) -> str:
        """Return the last lines of what it has printed, and what its runner has done."""
        self.update_deployment_state()
        return "".join(str(self._row["log"]).splitlines(keepends=True)[-num_lines:])

    def delete(self) -> None:
        """Delete it: what it has begun it answers, then it ends."""
        self.workspace._connection.do(services.delete, self.workspace.name, self.name)
        runners.wait(self.workspace._connection.dsn, self.workspace.name, self.name, DELETE_S)
        if self._row["node"] == socket.gethostname() and self.target in ("process", "docker"):
            runners.wait_closed(self._address, DELETE_S)

    def update(
        self, image: Any = None, tags: Mapping[str, Any] | None = None, properties: Mapping[str, Any] | None = None,
        description: str | None = None, auth_enabled: bool | None = None, models: Sequence[Model] | None = None,
        inference_config: Any = None, wait: bool = False, **config: Any,
    ) -> None:  # fmt: skip
        """Let it serve another model or image, or otherwise; no request fails meanwhile, and `wait_for_deployment` waits.

        config: of `deploy_configuration`, such as cpu_cores.
        Raises: WebserviceException where it is gone.
        """
        from dbml.core.webservice.deploying import settings, to_serve

        served = to_serve(self.workspace, self.name, models, image, inference_config)
        changed = {**settings(config), **served.config}
        said = {name: {str(key): str(value) for key, value in pairs.items()} if pairs is not None else None
                for name, pairs in (("tags", tags), ("properties", properties))}  # fmt: skip
        self.workspace._connection.do(
            services.update, self.workspace.name, self.name, model=served.model, image=served.image, config=changed or None,
            auth_enabled=auth_enabled, description=description, **said,
        )  # fmt: skip
        self.update_deployment_state()
        self._serve()
        if wait:
            self.wait_for_deployment()

    # -- two versions --------------------------------------------------------------------------------------------------

    @property
    def candidate(self) -> dict[str, Any] | None:
        """Return the version that is tried beside the one that serves, as dbml.service_candidates has it; None: there is none."""
        row = self.workspace._connection.do_again(services.candidate, self.workspace.name, self.name)
        return None if row is None else dict(row)

    @property
    def versions(self) -> builtins.list[dict[str, Any]]:
        """Return what it was asked to serve, the newest first, as dbml.service_versions has it."""
        return [dict(row) for row in self.workspace._connection.do_again(services.versions, self.workspace.name, self.name)]

    def comparisons(self, limit: int = 100) -> builtins.list[dict[str, Any]]:
        """Return the last answers that were compared with a shadow's, as dbml.service_comparisons has them."""
        rows = self.workspace._connection.do_again(services.comparisons, self.workspace.name, self.name, limit)
        return [dict(row) for row in rows]

    def set_candidate(
        self, models: Sequence[Model] | None = None, image: Any = None, inference_config: Any = None, *,
        traffic_percent: float | None = None, shadow: bool | None = None, wait: bool = False,
    ) -> None:  # fmt: skip
        """Serve another model or image beside this one, by a share of the requests or in its shadow.

        traffic_percent: of the requests, exactly.  shadow: its answers are compared and never returned.  Without a model or
        an image, the share of the one that is there is changed.
        Raises: WebserviceException, with wait, where it does not come up.
        """
        from dbml.core.webservice.deploying import to_serve

        served = to_serve(self.workspace, self.name, models, image, inference_config)
        self.workspace._connection.do(
            services.set_candidate, self.workspace.name, self.name, model=served.model, image=served.image,
            traffic_percent=traffic_percent, shadow=shadow, config=dict(served.config) or None,
        )  # fmt: skip
        self._serve()
        if wait:
            self.wait_for_candidate()

    def wait_for_candidate(self, timeout_sec: float | None = None) -> None:
        """Wait until the candidate answers.

        Raises: WebserviceException where it does not come up, or there is none.
        """
        until = None if timeout_sec is None else time.monotonic() + timeout_sec
        while (found := self.candidate) is None or found["state"] != "Healthy":
            if found is None or found["state"] == "Failed" or (until is not None and time.monotonic() > until):
                why = "there is none" if found is None else found["error"] or "it takes longer than it may"
                raise WebserviceException(f"the candidate of service {self.name!r} does not answer: {why}\n{self.get_logs()}")
            time.sleep(SHORTEST_PAUSE_S)

    def promote(self, wait: bool = False) -> None:
        """Let the candidate take over all requests, without one that fails."""
        self.workspace._connection.do(services.promote_candidate, self.workspace.name, self.name)
        self.update_deployment_state()
        if wait:
            self.wait_for_deployment()

    def rollback(self, generation: int | None = None, wait: bool = False) -> None:
        """Lose the candidate; where there is none, go back to what served before, or to a generation of `versions`."""
        self.workspace._connection.do(services.rollback, self.workspace.name, self.name, generation)
        self.update_deployment_state()
        self._serve()
        if wait:
            self.wait_for_deployment()

    # -- asking it -----------------------------------------------------------------------------------------------------

    def run(self, input_data: str | bytes | bytearray | Mapping[str, Any], timeout_s: float = 300) -> Any:
        """Score, once it answers, and return its answer, parsed.

        input_data: the body; text and mappings are sent as JSON.
        Raises: WebserviceException with the logs where it does not come up, with the answer where that is not 200.
        """
        self.wait_for_deployment()
        body = input_data if isinstance(input_data, bytes | bytearray) else (
            input_data if isinstance(input_data, str) else json.dumps(input_data)).encode()  # fmt: skip
        until = time.monotonic() + KEYS_S
        while True:
            status, answer = self._post(bytes(body), timeout_s)
            if status != 403 or time.monotonic() > until:
                break
            time.sleep(0.2)  # a key that is new is read within a second
        if status != 200:
            raise WebserviceException(f"Received bad response from service {self.name!r}: code {status}\n{answer}")
        try:
            return json.loads(answer)
        except ValueError:
            return answer

    def _post(self, body: bytes, timeout_s: float) -> tuple[int, str]:
        headers = {"Content-Type": "application/json"}
        if self.auth_enabled:
            headers["Authorization"] = f"Bearer {self.get_keys()[0]}"
        request = urllib.request.Request(str(self.scoring_uri), data=body, headers=headers)  # noqa: S310 - the runner's address
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=timeout_s) as answer:
                return int(answer.status), answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode("utf-8", "replace")
        except OSError as error:
            raise WebserviceException(f"service {self.name!r} cannot be reached at {self.scoring_uri}: {error}") from None

    def get_keys(self) -> tuple[str, str]:
        """Return the two keys, either of which opens it.

        Raises: InsufficientPrivilege for who may not write in the workspace.
        """
        return self.workspace._connection.do_again(services.keys, self.workspace.name, self.name)

    def regen_key(self, key: str, set_key: str | None = None) -> None:
        """Replace the key Primary or Secondary.

        set_key: the new one; None makes one.
        """
        self.workspace._connection.do(services.regenerate_key, self.workspace.name, self.name, key, set_key)

    def get_token(self) -> tuple[str, datetime]:
        """Refuse: services ask for keys.

        Raises: WebserviceException, as for a service that was not deployed with tokens.
        """
        raise WebserviceException(
            f"Received bad response from service {self.name!r}: code 400\nit asks for keys and not for tokens",
            hint="Webservice.get_keys()",
        )


def _class_of(compute_type: str) -> type[Webservice]:
    from dbml.core.webservice.aci import AciWebservice
    from dbml.core.webservice.aks import AksWebservice
    from dbml.core.webservice.iot import IotWebservice
    from dbml.core.webservice.local import LocalWebservice

    known: dict[str, type[Webservice]] = {
        "Local": LocalWebservice, "ACI": AciWebservice, "AKS": AksWebservice, "IOT": IotWebservice,
    }  # fmt: skip
    return known.get(compute_type, Webservice)
