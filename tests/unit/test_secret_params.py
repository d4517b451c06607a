"""Secret parameters: what the script gets, what is shown, and what is masked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbml import errors
from dbml.worker.secret_params import MARK, STARS, Secrets

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != MARK), inner),
)


@given(st.dictionaries(st.text().filter(lambda key: key != MARK), PLAIN))
def test_what_holds_no_secret_stays_as_it_is(params: dict[str, object]) -> None:
    secrets = Secrets(params)
    assert secrets.plain == params and secrets.shown == params and secrets.hide(params) == params
    text = json.dumps(params)
    assert secrets.mask(text) == text


@given(st.text(min_size=6), st.text(), st.text())
def test_no_text_that_holds_a_secret_keeps_it(secret: str, before: str, after: str) -> None:
    secrets = Secrets({"a": [{"b": {MARK: secret}}]})
    assert secrets.plain == {"a": [{"b": secret}]} and secrets.shown == {"a": [{"b": {MARK: True}}]}
    for text in (f"{before}{secret}{after}", repr([secret]), json.dumps([secret])):
        masked = secrets.mask(text)
        assert STARS in masked
    if "*" not in secret and before == after == "":
        assert secret not in secrets.mask(f"<{secret}>")


def test_of_two_secrets_the_longer_is_masked_whole() -> None:
    assert Secrets({"a": {MARK: "secret"}, "b": {MARK: "secretive"}}).mask("secretive secret") == "*** ***"


def test_half_a_secret_at_a_cut_is_masked() -> None:
    secrets = Secrets({"a": {MARK: "0123456789"}})
    assert secrets.mask_cut("so 01234", "6789 and on") == ("so ***", "*** and on")
    assert secrets.mask_cut("so 01", "89 and on") == ("so 01", "89 and on"), "two characters tell nothing"


def test_an_error_is_masked_in_all_its_parts() -> None:
    secrets = Secrets({"a": {MARK: "0123456789"}})
    error = secrets.mask_error(
        errors.ScriptError("at 0123456789", detail={"x": "0123456789"}, hint="no 0123456789", context="line 0123456789")
    )
    assert isinstance(error, errors.ScriptError) and "0123" not in str(error.fields())
    assert (error.message, error.detail) == ("at ***", {"x": STARS})
    plain = errors.ScriptError("nothing")
    assert secrets.mask_error(plain) is plain


@pytest.mark.parametrize("value", [None, True, [], {}, {MARK: "x"}])
def test_a_secret_is_text_or_a_number(value: object) -> None:
    with pytest.raises(errors.InvalidArgument, match="must be text or a number") as caught:
        Secrets({"p": {MARK: value}})
    assert json.loads(str(caught.value.hint)) == {"p": {MARK: "..."}}
