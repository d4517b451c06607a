"""What can be wrong with a request or a service, each with the HTTP status that tells it.

Problem
├── BadRequest            400  the body is not what the dialect or the signature asks for
├── KeyMissing            401
├── KeyWrong              403
├── UnknownModel          404
├── TooSlow               408  the body does not come
├── TooLarge              413
├── UnsupportedMediaType  415
├── ScriptFailed          500  score.py raised
├── Busy                  503  the queue is full, or the service drains
└── TimedOut              503  as azureml's limits: with Retry-After
ServiceInvalid            the folder of the service is not whole; it does not start
"""

from __future__ import annotations


class Problem(Exception):
    """Base of what is answered with a status and a message."""

    status = 500
    headers: tuple[tuple[str, str], ...] = ()

    def __init__(self, message: str, **detail: object) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail


class BadRequest(Problem):
    """The body is not what the dialect, or the model's signature, asks for."""

    status = 400


class KeyMissing(Problem):
    """The service wants a key, and the request has none."""

    status = 401
    headers = (("www-authenticate", "Bearer"),)


class KeyWrong(Problem):
    """The request's key is not one of the service's."""

    status = 403


class UnknownModel(Problem):
    """The service has no model of that name or version."""

    status = 404


class TooSlow(Problem):
    """The body does not come within the time for an answer."""

    status = 408
    headers = (("connection", "close"),)


class TooLarge(Problem):
    """The body is larger than the limit."""

    status = 413
    headers = (("connection", "close"),)


class UnsupportedMediaType(Problem):
    """The content type is not one that this path takes."""

    status = 415


class ScriptFailed(Problem):
    """score.py raised; its traceback is in the log, not in the answer."""


class Busy(Problem):
    """As many requests wait as may; or the service ends."""

    status = 503
    headers = (("retry-after", "1"),)


class TimedOut(Problem):
    """The answer took longer than the limit."""

    status = 503
    headers = (("retry-after", "1"),)


class ServiceInvalid(Exception):
    """The folder of a service is not whole: the message says what is missing and where."""
