# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Just enough of SQLite's grammar to read what its PRAGMAs don't tell.

CHECK constraints, AUTOINCREMENT, deferrable foreign keys, conflict clauses,
partial predicates and index expressions exist only in the text of the
CREATE statements that sqlite_master keeps.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*(?:\n|\Z)|/\*.*?(?:\*/|\Z))
  | (?P<blob>[xX]'[0-9A-Fa-f]*')
  | (?P<string>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
  | (?P<number>0[xX][0-9A-Fa-f]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
  | (?P<word>[^\W\d][\w$]*)
  | (?P<op>\|\||==|<>|!=|<=|>=|<<|>>|->>|->|.)
    """,
    re.VERBOSE | re.DOTALL,
)

_CONSTRAINT_STARTS = {"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"}


@dataclass(frozen=True)
class Token:
    """One lexical element; `value` is the unquoted name, string or the upper-cased word."""

    kind: str
    text: str
    value: str

    def is_word(self, *words: str) -> bool:
        return self.kind == "word" and self.value in words

    def is_op(self, text: str) -> bool:
        return self.kind == "op" and self.text == text


def unquote(text: str) -> str:
    """The name inside SQLite's three kinds of identifier quotes, or inside a string's."""
    if text[0] == "[":
        return text[1:-1]
    return text[1:-1].replace(text[0] * 2, text[0])


def tokenize(sql: str) -> list[Token]:
    tokens: list[Token] = []
    for match in _TOKEN.finditer(sql):
        kind = str(match.lastgroup)
        text = match.group()
        if kind == "space":
            continue
        if kind == "word":
            value = text.upper()
        elif kind in ("quoted", "string"):
            value = unquote(text)
        else:
            value = text
        tokens.append(Token(kind, text, value))
    return tokens


def join_tokens(tokens: list[Token]) -> str:
    """The tokens as SQL again, for people to read."""
    out = ""
    for token in tokens:
        glue = (
            not out
            or token.text in ("(", ")", ",", ".")
            and not (token.text == "(" and out[-1] in "=<>+-*/|")
            or out[-1] in "(."
        )
        out += token.text if glue else " " + token.text
    return out


def closing(tokens: list[Token], start: int) -> int:
    """Index of the parenthesis that closes the one at `start`."""
    depth = 0
    for index in range(start, len(tokens)):
        if tokens[index].is_op("("):
            depth += 1
        elif tokens[index].is_op(")"):
            depth -= 1
            if depth == 0:
                return index
    return len(tokens) - 1


def split_commas(tokens: list[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        if token.is_op("("):
            depth += 1
        elif token.is_op(")"):
            depth -= 1
        if depth == 0 and token.is_op(","):
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


@dataclass
class CheckText:
    name: str | None
    tokens: list[Token]
    column: str | None


@dataclass
class TableText:
    """What only the CREATE TABLE statement says."""

    checks: list[CheckText] = field(default_factory=list)
    autoincrement: bool = False
    without_rowid: bool = False
    strict: bool = False
    inline_primary_key_desc: bool = False
    collations: dict[str, str] = field(default_factory=dict)
    deferred: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    constraint_names: dict[tuple[str, tuple[str, ...]], str] = field(default_factory=dict)
    generated: dict[str, list[Token]] = field(default_factory=dict)


def _names_in(tokens: list[Token]) -> tuple[str, ...]:
    names = []
    for part in split_commas(tokens):
        first = part[0]
        names.append(first.value if first.kind in ("quoted", "string") else first.text)
    return tuple(name.lower() for name in names)


def _read_constraints(tokens: list[Token], column: str | None, found: TableText) -> None:
    """One definition's constraints; `column` is set for a column's own ones."""
    index = 0
    name: str | None = None
    local: tuple[str, ...] = (column.lower(),) if column else ()
    kind = ""
    references = ""
    while index < len(tokens):
        token = tokens[index]
        following = tokens[index + 1] if index + 1 < len(tokens) else None
        if token.is_word("CONSTRAINT") and following is not None:
            name = following.value if following.kind == "quoted" else following.text
            index += 2
            continue
        if token.is_word("CHECK") and following is not None and following.is_op("("):
            end = closing(tokens, index + 1)
            found.checks.append(CheckText(name, tokens[index + 2 : end], column))
            name = None
            index = end + 1
            continue
        if token.is_word("AS") and column and following is not None and following.is_op("("):
            end = closing(tokens, index + 1)
            found.generated[column.lower()] = tokens[index + 2 : end]
            index = end + 1
            continue
        if token.is_word("PRIMARY", "UNIQUE", "FOREIGN"):
            kind = token.value
        if token.is_word("PRIMARY") and column:
            if index + 2 < len(tokens) and tokens[index + 2].is_word("DESC"):
                found.inline_primary_key_desc = True
        if token.is_word("AUTOINCREMENT"):
            found.autoincrement = True
        if token.is_word("COLLATE") and column and following is not None:
            found.collations[column.lower()] = (
                following.value if following.kind == "quoted" else following.text
            ).upper()
        if token.is_word("REFERENCES") and following is not None:
            kind = "FOREIGN"
            references = following.value if following.kind == "quoted" else following.text
            if name:
                found.constraint_names[("FOREIGN", local)] = name
                name = None
            index += 2
            if index < len(tokens) and tokens[index].is_op("("):
                index = closing(tokens, index) + 1
            continue
        if token.is_word("DEFERRED") and references:
            found.deferred.append((local, references.lower()))
        if (
            token.is_word("CONFLICT")
            and following is not None
            and index > 0
            and tokens[index - 1].is_word("ON")
        ):
            if not following.is_word("ABORT"):
                where = f"column {column}" if column else kind.lower() or "constraint"
                found.conflicts.append(f"ON CONFLICT {following.value} ({where})")
        if token.is_op("("):
            end = closing(tokens, index)
            if column is None and kind and not local:
                local = _names_in(tokens[index + 1 : end])
                if name and kind != "FOREIGN":
                    found.constraint_names[(kind, local)] = name
                    name = None
            index = end + 1
            continue
        if token.is_word("PRIMARY", "UNIQUE") and column and name:
            found.constraint_names[(token.value, local)] = name
            name = None
        index += 1


def parse_create_table(sql: str) -> TableText:
    tokens = tokenize(sql)
    found = TableText()
    start = next((i for i, token in enumerate(tokens) if token.is_op("(")), None)
    if start is None:
        return found
    end = closing(tokens, start)
    for token in tokens[end + 1 :]:
        found.without_rowid = found.without_rowid or token.is_word("ROWID")
        found.strict = found.strict or token.is_word("STRICT")
    for part in split_commas(tokens[start + 1 : end]):
        if part[0].kind == "word" and part[0].value in _CONSTRAINT_STARTS:
            _read_constraints(part, None, found)
        else:
            first = part[0]
            name = first.value if first.kind in ("quoted", "string") else first.text
            # SQLite allows table constraints without a comma before them; they then
            # read as the last column's own, which is right for all that is kept here.
            _read_constraints(part[1:], name, found)
    return found


@dataclass
class IndexText:
    """What only the CREATE INDEX statement says."""

    terms: list[list[Token]]
    where: list[Token] | None


def parse_create_index(sql: str) -> IndexText:
    tokens = tokenize(sql)
    on = next((i for i, token in enumerate(tokens) if token.is_word("ON")), 0)
    start = next((i for i in range(on, len(tokens)) if tokens[i].is_op("(")), None)
    if start is None:
        return IndexText([], None)
    end = closing(tokens, start)
    where = None
    if end + 1 < len(tokens) and tokens[end + 1].is_word("WHERE"):
        where = tokens[end + 2 :]
    return IndexText(split_commas(tokens[start + 1 : end]), where)
