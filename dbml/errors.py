"""Every error dbml raises, one class a SQLSTATE.

The classes are psycopg `DatabaseError`s declared with their code, so an error that a server
reports with SQLSTATE ML001 is raised by psycopg as `ScriptError`, and the same class is what the
worker raises before the error goes over the wire.  This module knows no other part of dbml.

    DbmlError                     ML000
    ├── ScriptFailed              (any way in which a script ended badly)
    │   ├── ScriptError           ML001  the script raised an exception
    │   ├── ScriptSyntaxError     ML002  the script does not compile
    │   ├── ScriptExit            ML003  the script called sys.exit
    │   ├── ScriptCrashed         ML004  the script's process died
    │   ├── LimitExceeded         ML005  a limit, named in the message
    │   └── ScriptTimeout         ML006  the call's timeout passed
    ├── ColumnListMismatch        ML007  AS t(…) does not fit what the script returned
    ├── UnsupportedType           ML008  a type or a value that cannot be carried exactly
    ├── InvalidArgument           ML009
    ├── WorkerError
    │   ├── WorkerUnreachable     ML010  nobody listens
    │   ├── WorkerLost            ML011  it went away in mid-call
    │   ├── WorkerRefused         ML012  wrong secret, expired or replayed request
    │   ├── ProtocolMismatch      ML013  worker and schema are of different versions
    │   ├── TooManyScripts        ML015  as many scripts run or wait as the worker takes
    │   ├── SandboxMissing        ML016  the worker's machine has no way to hold scripts
    │   └── CallCanceled          57014  PostgreSQL's own code, not declared to psycopg
    ├── ModelError
    │   ├── ModelNotFound         ML020
    │   ├── MissingFeature        ML021  a column that the model needs is not in the input
    │   ├── ModelLoadError        ML022
    │   ├── PredictionError       ML023
    │   ├── ScorerLost            ML024
    │   ├── ModelExists           ML025
    │   ├── ModelRefused          ML026  it holds what is not trusted, or the workspace's policy forbids
    │   └── NotCompiled           ML027  no certified form of it for the engine that was asked for
    ├── NotSupportedYet           ML030
    ├── LanguageMissing           ML031  the worker's machine lacks what runs the script's language
    ├── EnvironmentFailed         (an environment of packages)
    │   ├── EnvironmentNotFound     ML036
    │   ├── EnvironmentUnresolvable ML037  the resolver's own words
    │   └── EnvironmentBuildFailed  ML038  locked, but it cannot be built or started
    ├── SchemaError               ML040
    │   ├── SchemaTooOld          ML041
    │   ├── SchemaTooNew          ML042
    │   ├── SchemaMissing         ML043
    │   └── DblinkMissing         ML044
    ├── WorkspaceNotFound         ML050
    ├── ScriptNotFound            ML051  no stored script of that name, or no right to run it
    ├── RunNotFound               ML052
    ├── SnapshotNotFound          ML054  no such snapshot in the workspace
    ├── ImageNotFound             ML056  no such image, or it has no such file
    ├── NothingFound              ML055  nothing of that name, of whatever kind
    ├── DatasetError              (datasets and datastores)
    │   ├── DatasetNotFound       ML070
    │   ├── DatasetExists         ML071  with another definition
    │   ├── DatastoreNotFound     ML072
    │   └── FileMissing           ML073  a datastore, or a dataset's version, has no such file
    ├── ServiceError              (web services)
    │   ├── ServiceNotFound       ML080
    │   └── ServiceExists         ML081
    ├── PoolNotFound              ML060
    └── PoolDenied                ML061  the pool is another role's
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import psycopg


class DbmlError(psycopg.DatabaseError, code="ML000", name="DBML_ERROR"):
    """Base of all errors of dbml.

    detail: a JSON object for programs; hint: a next command that runs; context: the lines of the
    script, for an error of a script.  An error that came from a server has them in `.diag` too.
    """

    sqlstate: str | None = "ML000"
    _foreign_sqlstate: str | None = None  # of an error that is not dbml's, carried on as it is

    def __init__(
        self,
        *args: object,
        info: Any = None,
        encoding: str = "utf-8",
        detail: Mapping[str, Any] | None = None,
        hint: str | None = None,
        context: str | None = None,
    ) -> None:
        super().__init__(*cast(Any, args), info=info, encoding=encoding)
        self._detail = dict(detail) if detail is not None else None
        self._hint = hint
        self._context = context

    @property
    def message(self) -> str:
        """Return the primary message alone."""
        return self.diag.message_primary or (str(self.args[0]) if self.args else "")

    @property
    def detail(self) -> Mapping[str, Any]:
        """Return the detail object, empty where there is none."""
        if self._detail is not None:
            return self._detail
        try:
            parsed = json.loads(self.diag.message_detail or "{}")
        except ValueError:
            return {}
        return parsed if isinstance(parsed, dict) else {}

    @property
    def hint(self) -> str | None:
        """Return the hint, a next command that runs."""
        return self._hint if self._hint is not None else self.diag.message_hint

    @property
    def context(self) -> str | None:
        """Return the context: for an error of a script, the script's own lines."""
        return self._context if self._context is not None else self.diag.context

    def fields(self) -> dict[str, str | None]:
        """Return the error as the fields of an ErrorResponse, all text."""
        return {
            "sqlstate": self._foreign_sqlstate or type(self).sqlstate,
            "message": self.message,
            "detail": json.dumps(self._detail, ensure_ascii=False) if self._detail else None,
            "hint": self.hint,
            "context": self.context,
        }


class ScriptFailed(DbmlError):
    """Any way in which a script ended badly."""


class ScriptError(ScriptFailed, code="ML001", name="SCRIPT_ERROR"):
    """The script raised an exception; its text is the message, its lines are the context."""

    sqlstate = "ML001"


class ScriptSyntaxError(ScriptFailed, code="ML002", name="SCRIPT_SYNTAX_ERROR"):
    """The script does not compile."""

    sqlstate = "ML002"


class ScriptExit(ScriptFailed, code="ML003", name="SCRIPT_EXIT"):
    """The script called sys.exit."""

    sqlstate = "ML003"


class ScriptCrashed(ScriptFailed, code="ML004", name="SCRIPT_CRASHED"):
    """The script's process died of a signal or ended without finishing."""

    sqlstate = "ML004"


class LimitExceeded(ScriptFailed, code="ML005", name="LIMIT_EXCEEDED"):
    """A limit was exceeded; the message names it and its value."""

    sqlstate = "ML005"


class ScriptTimeout(ScriptFailed, code="ML006", name="SCRIPT_TIMEOUT"):
    """The timeout of the call passed."""

    sqlstate = "ML006"


class ColumnListMismatch(DbmlError, code="ML007", name="COLUMN_LIST_MISMATCH"):
    """The call's column list does not fit; the hint is a list that does."""

    sqlstate = "ML007"


class UnsupportedType(DbmlError, code="ML008", name="UNSUPPORTED_TYPE"):
    """A type or a value cannot be carried exactly; the message names column and type."""

    sqlstate = "ML008"


class InvalidArgument(DbmlError, code="ML009", name="INVALID_ARGUMENT"):
    """An argument breaks a rule that the message states."""

    sqlstate = "ML009"


class WorkerError(DbmlError):
    """The worker could not serve the call."""


class WorkerUnreachable(WorkerError, code="ML010", name="WORKER_UNREACHABLE"):
    """Nobody listens at the worker's address."""

    sqlstate = "ML010"


class WorkerLost(WorkerError, code="ML011", name="WORKER_LOST"):
    """The worker went away in mid-call."""

    sqlstate = "ML011"


class WorkerRefused(WorkerError, code="ML012", name="WORKER_REFUSED"):
    """The worker did not accept the request's signature, age or nonce."""

    sqlstate = "ML012"


class ProtocolMismatch(WorkerError, code="ML013", name="PROTOCOL_MISMATCH"):
    """The worker and the schema speak different versions of the channel's protocol."""

    sqlstate = "ML013"


class SandboxMissing(WorkerError, code="ML016", name="SANDBOX_MISSING"):
    """No layer of the sandbox holds on the worker's machine."""

    sqlstate = "ML016"


class TooManyScripts(WorkerError, code="ML015", name="TOO_MANY_SCRIPTS"):
    """As many scripts run or wait as the worker takes; the message names the limit."""

    sqlstate = "ML015"


class CallCanceled(WorkerError):
    """The caller cancelled the call; PostgreSQL's own query_canceled, which psycopg raises itself."""

    sqlstate = "57014"


class ModelError(DbmlError):
    """A model cannot be found, loaded or scored."""


class ModelNotFound(ModelError, code="ML020", name="MODEL_NOT_FOUND"):
    """No model of that name, version or alias is visible to the caller."""

    sqlstate = "ML020"


class MissingFeature(ModelError, code="ML021", name="MISSING_FEATURE"):
    """The input lacks a column that the model was trained on."""

    sqlstate = "ML021"


class ModelLoadError(ModelError, code="ML022", name="MODEL_LOAD_ERROR"):
    """The model's bytes do not load in this environment."""

    sqlstate = "ML022"


class PredictionError(ModelError, code="ML023", name="PREDICTION_ERROR"):
    """The model raised while it scored, or its answer does not fit the function called."""

    sqlstate = "ML023"


class ScorerLost(ModelError, code="ML024", name="SCORER_LOST"):
    """The scorer's process died while it scored."""

    sqlstate = "ML024"


class ModelExists(ModelError, code="ML025", name="MODEL_EXISTS"):
    """That version or alias is taken."""

    sqlstate = "ML025"


class ModelRefused(ModelError, code="ML026", name="MODEL_REFUSED"):
    """The model's format, or a type in it, is not trusted or not allowed by the workspace's policy; the message names it."""

    sqlstate = "ML026"


class NotCompiled(ModelError, code="ML027", name="NOT_COMPILED"):
    """The model has no certified form for the engine that was asked for; the message names the step and why."""

    sqlstate = "ML027"


class NotSupportedYet(DbmlError, code="ML030", name="NOT_SUPPORTED_YET"):
    """A documented argument that this release does not implement; it is never ignored."""

    sqlstate = "ML030"


class LanguageMissing(DbmlError, code="ML031", name="LANGUAGE_MISSING"):
    """What runs the script's language is not installed where the worker runs."""

    sqlstate = "ML031"


class EnvironmentFailed(DbmlError):
    """An environment cannot be found, resolved or built."""


class EnvironmentNotFound(EnvironmentFailed, code="ML036", name="ENVIRONMENT_NOT_FOUND"):
    """No environment of that name or version is in the workspace."""

    sqlstate = "ML036"


class EnvironmentUnresolvable(EnvironmentFailed, code="ML037", name="ENVIRONMENT_UNRESOLVABLE"):
    """A specification cannot be resolved: the message is the resolver's own words, the detail has all of them."""

    sqlstate = "ML037"


class EnvironmentBuildFailed(EnvironmentFailed, code="ML038", name="ENVIRONMENT_BUILD_FAILED"):
    """A locked environment cannot be built or started on the worker's machine."""

    sqlstate = "ML038"


class SchemaError(DbmlError, code="ML040", name="SCHEMA_ERROR"):
    """The schema in the database does not serve this code."""

    sqlstate = "ML040"


class SchemaTooOld(SchemaError, code="ML041", name="SCHEMA_TOO_OLD"):
    """The schema is older than the code; `dbml upgrade` mends it."""

    sqlstate = "ML041"


class SchemaTooNew(SchemaError, code="ML042", name="SCHEMA_TOO_NEW"):
    """The schema is newer than the code; a newer dbml mends it."""

    sqlstate = "ML042"


class SchemaMissing(SchemaError, code="ML043", name="SCHEMA_MISSING"):
    """The database has no schema dbml; `dbml install` makes it."""

    sqlstate = "ML043"


class DblinkMissing(SchemaError, code="ML044", name="DBLINK_MISSING"):
    """The extension dblink is not in the database and may not be created by this role."""

    sqlstate = "ML044"


class ScriptNotFound(DbmlError, code="ML051", name="SCRIPT_NOT_FOUND"):
    """No stored script of that name and version, or no right to run it."""

    sqlstate = "ML051"


class RunNotFound(DbmlError, code="ML052", name="RUN_NOT_FOUND"):
    """No such run, or it has kept nothing of that name."""

    sqlstate = "ML052"


class UploadNotFound(DbmlError, code="ML053", name="UPLOAD_NOT_FOUND"):
    """No such upload of the caller: it was used, given up, or is a day old."""

    sqlstate = "ML053"


class SnapshotNotFound(DbmlError, code="ML054", name="SNAPSHOT_NOT_FOUND"):
    """The workspace has no such snapshot."""

    sqlstate = "ML054"


class NothingFound(DbmlError, code="ML055", name="NOTHING_FOUND"):
    """Nothing of that name is in the workspace: neither model, dataset, table, environment, experiment nor run."""

    sqlstate = "ML055"


class ImageNotFound(DbmlError, code="ML056", name="IMAGE_NOT_FOUND"):
    """There is no such image in the workspace, or it has no such file."""

    sqlstate = "ML056"


class PoolNotFound(DbmlError, code="ML060", name="POOL_NOT_FOUND"):
    """No resource pool of that name."""

    sqlstate = "ML060"


class PoolDenied(DbmlError, code="ML061", name="POOL_DENIED"):
    """No rule lets the role use that resource pool."""

    sqlstate = "ML061"


class DatasetError(DbmlError):
    """A dataset, a datastore or a file of one cannot be found or registered."""


class DatasetNotFound(DatasetError, code="ML070", name="DATASET_NOT_FOUND"):
    """No dataset of that name and version in the workspace."""

    sqlstate = "ML070"


class DatasetExists(DatasetError, code="ML071", name="DATASET_EXISTS"):
    """The name has another definition, and no new version was asked for."""

    sqlstate = "ML071"


class DatastoreNotFound(DatasetError, code="ML072", name="DATASTORE_NOT_FOUND"):
    """No datastore of that name in the workspace."""

    sqlstate = "ML072"


class FileMissing(DatasetError, code="ML073", name="FILE_MISSING"):
    """A datastore, or a version of a dataset, has no such file."""

    sqlstate = "ML073"


class ServiceError(DbmlError):
    """A web service cannot be found or made."""


class ServiceNotFound(ServiceError, code="ML080", name="SERVICE_NOT_FOUND"):
    """No service of that name in the workspace."""

    sqlstate = "ML080"


class ServiceExists(ServiceError, code="ML081", name="SERVICE_EXISTS"):
    """The name is another service's, and it was not to be replaced."""

    sqlstate = "ML081"


class WorkspaceNotFound(DbmlError, code="ML050", name="WORKSPACE_NOT_FOUND"):
    """No workspace of that name is visible to the caller."""

    sqlstate = "ML050"


def _walk(cls: type[DbmlError]) -> dict[str, type[DbmlError]]:
    found = {str(cls.sqlstate): cls} if "sqlstate" in vars(cls) else {}
    for child in cls.__subclasses__():
        found.update(_walk(child))
    return found


BY_SQLSTATE: Mapping[str, type[DbmlError]] = _walk(DbmlError)


def from_fields(fields: Mapping[str, Any]) -> DbmlError:
    """Make the error that `DbmlError.fields` described; an unknown SQLSTATE gives DbmlError."""
    detail = fields.get("detail")
    if isinstance(detail, str):
        try:
            detail = json.loads(detail) if detail else None
        except (ValueError, RecursionError):
            detail = {"said": detail}
    sqlstate = str(fields.get("sqlstate") or "ML000")
    error = BY_SQLSTATE.get(sqlstate, DbmlError)(
        str(fields.get("message") or ""), detail=detail if isinstance(detail, Mapping) else None,
        hint=_text_or_none(fields.get("hint")), context=_text_or_none(fields.get("context")),
    )  # fmt: skip
    if sqlstate not in BY_SQLSTATE:
        error._foreign_sqlstate = sqlstate
    return error


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)
