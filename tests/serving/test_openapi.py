"""What /openapi.json says holds: requests made from it get no 5xx, and no answer that it does not tell of."""

from __future__ import annotations

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.serving.services import Served

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_headers_conformance,
    response_schema_conformance,
]  # fmt: skip


def bounded(examples: int) -> settings:
    """Return settings by which each run asks the same."""
    return settings(
        max_examples=examples, derandomize=True, deadline=None, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("service", ["ridge", "mixed"])
def test_no_5xx_and_no_undocumented_answer(service: str, mode: GenerationMode, request: pytest.FixtureRequest) -> None:
    """Both what fits the description and what does not."""
    served: Served = request.getfixturevalue(service)
    schema = schemathesis.openapi.from_url(served.url + "/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 20
    with requests.Session() as session:
        for operation in operations:

            @given(operation.as_strategy(generation_mode=mode))
            def ask(case: schemathesis.Case) -> None:
                case.call_and_validate(checks=CHECKS, session=session, timeout=60)

            try:
                bounded(2 if "{version}" in operation.path else 15)(ask)()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE and not operation.body  # nothing of it can be wrong
