from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusepkg.store.s3.metadata import decode_metadata, encode_metadata


@given(st.text())
def test_every_value_comes_back_from_a_header(value: str) -> None:
    header = encode_metadata({"name": value})["name"]
    assert header.isascii()
    assert header.isprintable()
    assert header == header.strip()
    assert decode_metadata({"name": header}) == {"name": value}


@pytest.mark.parametrize("value", ["", "plain", 'a; b="c", d/e+f?g', "two  blanks"])
def test_plain_values_stay_as_they_are(value: str) -> None:
    assert encode_metadata({"name": value}) == {"name": value}


def test_names_are_lower_case_on_the_wire() -> None:
    assert encode_metadata({"Name": "x"}) == {"name": "x"}
    assert decode_metadata({"Name": "x"}) == {"name": "x"}
