# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters; systemd's own reading of quotes is written down again here."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.golive.webstack.plugins.filter import systemd_environment as environment
from ansible_collections.golive.webstack.plugins.filter.closest import closest
from ansible_collections.golive.webstack.plugins.filter.url_userinfo import url_userinfo

to_lines = environment.systemd_environment
LINE_TEXT = st.text(st.characters(exclude_characters="\x00\n\r", exclude_categories=["Cs"]))
FILTERS = Path(environment.__file__).parent


def as_systemd_reads(line: str) -> str:
    """env-file.c: inside double quotes, a backslash frees one of these four."""
    match = re.fullmatch(r'[A-Za-z_][A-Za-z0-9_]*="(.*)"', line, re.DOTALL)
    assert match
    body = match.group(1)
    assert not re.search(r'(?<!\\)(?:\\\\)*"', body)
    return re.sub(r'\\([\\"$`])', r"\1", body)


@given(LINE_TEXT)
def test_any_value_comes_back(value: str) -> None:
    line = to_lines({"NAME": value}).removesuffix("\n")
    assert as_systemd_reads(line) == value


def test_sorted_and_typed() -> None:
    lines = to_lines({"b": 5, "A": True, "_c": "", "d": 'x "y" $z `w` \\'})
    assert lines == 'A="true"\n_c=""\nb="5"\nd="x \\"y\\" \\$z \\`w\\` \\\\"\n'
    assert to_lines({}) == ""


@pytest.mark.parametrize("name", ["1A", "A-B", "A B", "", "A=", "Ä", "A\n"])
def test_bad_names(name: str) -> None:
    with pytest.raises(AnsibleFilterError, match="no name of an environment variable"):
        to_lines({name: "x"})


@pytest.mark.parametrize("value", ["hidden\nline", "hidden\x00", "hidden\r", "hidden\udcff"])
def test_bad_values_are_not_shown(value: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        to_lines({"PASSWORD": value})
    assert "PASSWORD" in str(caught.value) and "hidden" not in str(caught.value)


@pytest.mark.parametrize("value", [None, ["hidden"], {"a": "hidden"}])
def test_values_that_are_no_text(value: object) -> None:
    with pytest.raises(AnsibleFilterError, match="PASSWORD is") as caught:
        to_lines({"PASSWORD": value})
    assert "hidden" not in str(caught.value)


def test_only_dictionaries() -> None:
    with pytest.raises(AnsibleFilterError):
        to_lines(["A=1"])


@given(LINE_TEXT)
def test_userinfo_comes_back(text: str) -> None:
    encoded = url_userinfo(text)
    parts = urlsplit(f"postgresql://user:{encoded}@host/db")
    assert parts.hostname == "host" and unquote(parts.password or "") == text


def test_userinfo_needs_a_text() -> None:
    assert url_userinfo("a/b@c:d%") == "a%2Fb%40c%3Ad%25"
    with pytest.raises(AnsibleFilterError):
        url_userinfo(5)


@pytest.mark.parametrize("name", ["systemd_environment", "url_userinfo"])
def test_documentation_is_there(name: str) -> None:
    documented = yaml.safe_load((FILTERS / f"{name}.yml").read_text())
    assert documented["DOCUMENTATION"]["name"] == name
    assert documented["EXAMPLES"] and documented["RETURN"]["_value"]


def test_the_closest_name_is_a_slip_of_the_pen_away() -> None:
    names = ["webstack_domain", "webstack_tls", "webstack_static"]
    assert closest("webstack_domian", names) == "webstack_domain"
    assert closest("my_own", names) == ""
    with pytest.raises(AnsibleFilterError):
        closest("a", "abc")
