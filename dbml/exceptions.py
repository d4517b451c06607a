"""Errors of the SDK, by the names of azureml-core.

    AzureMLException (a DbmlError)
    ├── UserErrorException               an argument or a file that breaks a rule
    │   ├── WorkspaceException           no such workspace, or it exists
    │   ├── RunConfigurationException
    │   ├── DatasetTimestampMissingError
    │   └── DatastoreNotFoundException
    ├── ModelPathNotFoundException
    ├── WebserviceException
    │   └── ModelNotFoundException       no such model
    ├── ComputeTargetException           no such compute target
    ├── ExperimentExecutionException
    │   └── ActivityFailedException      a run that was waited for has failed
    ├── RunEnvironmentException          there is no run to take part in
    ├── ProjectSystemException
    ├── SnapshotException
    ├── ServiceException
    ├── TrainingException
    │   └── HyperDriveConfigException    a search that cannot be
    └── AuthenticationException

What the database refuses is raised as it is, a `dbml.errors.DbmlError` with its SQLSTATE.
"""

from __future__ import annotations

from dbml.errors import DbmlError


class AzureMLException(DbmlError):
    """Base of the SDK's own errors; `message` is the text alone, `hint` what to do."""


class UserErrorException(AzureMLException):
    """An argument or a file breaks a rule that the message states."""


class WorkspaceException(UserErrorException):
    """The workspace is not there, or is there already."""


class RunConfigurationException(UserErrorException):
    """A run's configuration breaks a rule."""


class DatasetTimestampMissingError(UserErrorException):
    """A dataset is asked for a time, and has no column that is known to have it."""


class DatastoreNotFoundException(UserErrorException):
    """No datastore of that name."""


class ModelPathNotFoundException(AzureMLException):
    """The path of a model is not there."""


class WebserviceException(AzureMLException):
    """A model or a service is not there, or cannot serve."""


class ModelNotFoundException(WebserviceException):
    """No model of that name, version or run."""


class ComputeTargetException(AzureMLException):
    """No compute target of that name."""


class ExperimentExecutionException(AzureMLException):
    """A run could not be started or carried through."""


class ActivityFailedException(ExperimentExecutionException):
    """A run that was waited for has failed or was cancelled."""


class RunEnvironmentException(AzureMLException):
    """There is no run that this process could take part in."""


class ProjectSystemException(AzureMLException):
    """The SDK was asked for what it cannot do in this state."""


class SnapshotException(AzureMLException):
    """A source folder could not be kept or restored."""


class ServiceException(AzureMLException):
    """The database could not serve a request."""


class TrainingException(AzureMLException):
    """Training could not be carried through."""


class HyperDriveConfigException(TrainingException):
    """A search of HyperDrive has been configured wrongly."""


class AuthenticationException(AzureMLException):
    """The database did not accept who asks."""
