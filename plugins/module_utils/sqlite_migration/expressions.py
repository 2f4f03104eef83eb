# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLite's expressions and defaults as PostgreSQL's, where both mean the same.

Anything whose meaning could differ isn't translated: LIKE and text order (case and
collation), comparisons of times with texts, JSON functions, unknown functions.
"""

from __future__ import annotations

import re
from typing import Any

from .copy_text import BadValue, check_json, encoder_for
from .sqltext import Token, closing, tokenize
from .types import TargetType

_INTEGER_KINDS = {"bigint", "int4", "int2"}
_NUMERIC_KINDS = _INTEGER_KINDS | {"double", "float4", "numeric"}
_TEXT_KINDS = {"text", "bpchar"}
_OPERATORS = {"=", "==", "<>", "!=", "<", "<=", ">", ">=", "+", "-", "*", "(", ")", ",", "||"}
_ORDERING = {"<", "<=", ">", ">="}
_WORDS = {"AND", "OR", "NOT", "IN", "IS", "NULL", "ISNULL", "NOTNULL", "BETWEEN"}
_FUNCTIONS = {"LENGTH": "length", "LOWER": "lower", "UPPER": "upper", "ABS": "abs"}
_FUNCTIONS |= {"COALESCE": "coalesce", "IFNULL": "coalesce", "TRIM": "trim"}
_NOW = re.compile(r"^(datetime|date|time)\(\s*'now'\s*\)$", re.IGNORECASE)
_UNIX_NOW = re.compile(
    r"^(?:unixepoch\((?:\s*'now'\s*)?\)|strftime\(\s*'%s'\s*,\s*'now'\s*\)"
    r"|CAST\(\s*strftime\(\s*'%s'\s*,\s*'now'\s*\)\s+AS\s+INT(?:EGER)?\s*\))$",
    re.IGNORECASE,
)


class Untranslatable(ValueError):
    """Why an expression means something else, or nothing, in PostgreSQL."""


def quote_identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    if "\x00" in text:
        raise Untranslatable("a NUL byte in a string")
    if "\\" in text:
        return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + text.replace("'", "''") + "'"


def always_true_for_boolean(tokens: list[Token], columns: dict[str, TargetType]) -> bool:
    """`column IN (0, 1)` on a boolean: what SQLAlchemy adds, and the type itself says."""
    if len(tokens) != 7 or not tokens[1].is_word("IN"):
        return False
    name = tokens[0].value if tokens[0].kind == "quoted" else tokens[0].text
    target = columns.get(name.lower())
    values = {tokens[3].text, tokens[5].text}
    return target is not None and target.kind == "boolean" and values == {"0", "1"}


def is_json_check(tokens: list[Token]) -> str | None:
    """The column of CHECK (json_valid(column)), with or without OR column IS NULL."""
    while tokens and tokens[0].is_op("(") and closing(tokens, 0) == len(tokens) - 1:
        tokens = tokens[1:-1]
    if len(tokens) not in (4, 8) or not tokens[0].is_word("JSON_VALID") or not tokens[1].is_op("("):
        return None
    name = _name(tokens[2])
    if len(tokens) == 8:
        same = _name(tokens[5]).lower() == name.lower()
        rest = tokens[6].is_word("IS") and tokens[7].is_word("NULL")
        if not (tokens[4].is_word("OR") and same and rest):
            return None
    return name


def _name(token: Token) -> str:
    return token.value if token.kind == "quoted" else token.text


def translate_generated(
    tokens: list[Token],
    target: TargetType,
    columns: dict[str, TargetType],
    names: dict[str, str],
    computed: set[str],
) -> str:
    """A generated column's expression, where PostgreSQL computes the very same values.

    Either whole numbers and doubles by + - *, or texts by ||, trim() and the like. lower() folds
    more letters in PostgreSQL, a quotient of integers may differ, and so may a decimal's digits.
    """
    used = {
        _name(token).lower()
        for token in tokens
        if token.kind in ("word", "quoted") and _name(token).lower() in columns
    }
    kinds = {columns[name].kind for name in used}
    if used & computed:
        raise Untranslatable("another generated column")
    if any(columns[name].conversion for name in used):
        raise Untranslatable("a column whose values change their form")
    if any(token.is_word("LOWER", "UPPER") for token in tokens):
        raise Untranslatable("lower() or upper(), which know more letters in PostgreSQL")
    if any(token.is_word("LENGTH", "ABS", "IN", "IS", "NOT", "AND", "OR") for token in tokens):
        raise Untranslatable("a function or condition whose type isn't certain")
    joined = any(token.is_op("||") for token in tokens)
    arithmetic = any(token.is_op(op) for op in "+-*" for token in tokens)
    if (
        target.kind == "text"
        and not arithmetic
        and kinds <= _TEXT_KINDS | (_INTEGER_KINDS if joined else set())
    ):
        if any(token.kind == "number" for token in tokens):
            raise Untranslatable("numbers among texts")
        return translate(tokens, columns, names)
    plain = not joined and not any(token.kind == "string" for token in tokens)
    if plain and kinds <= _INTEGER_KINDS and target.kind in ("bigint", "double"):
        if all(token.text.isdigit() for token in tokens if token.kind == "number"):
            return translate(tokens, columns, names)
    if plain and kinds == {"double"} and target.kind == "double":
        # SQLite has no NaN: it computes NULL.
        return f"nullif({translate(tokens, columns, names)}, 'NaN')"
    raise Untranslatable("an expression whose values PostgreSQL may compute otherwise")


def translate(
    tokens: list[Token],
    columns: dict[str, TargetType],
    names: dict[str, str],
    folded: set[str] | frozenset[str] = frozenset(),
) -> str:
    """`columns` and `names` are keyed by the lower-cased column name.

    `folded` are those that SQLite compares without regard to case or trailing spaces.
    """
    if not tokens:
        raise Untranslatable("the expression can't be read")
    out: list[str] = []
    kinds: set[str] = set()
    ordering = False
    index = 0
    while index < len(tokens):
        token = tokens[index]
        nxt = tokens[index + 1] if index + 1 < len(tokens) else None
        if token.kind == "string":
            out.append(quote_literal(token.value))
            kinds.add("string")
        elif token.kind == "number":
            if token.text[:2].lower() == "0x":
                raise Untranslatable("a hexadecimal number")
            out.append(token.text)
        elif token.kind == "op":
            if token.text not in _OPERATORS:
                raise Untranslatable(f"the operator {token.text}")
            ordering = ordering or token.text in _ORDERING
            out.append({"==": "=", "!=": "<>"}.get(token.text, token.text))
        elif token.kind == "word" and nxt is not None and nxt.is_op("("):
            if token.value in _WORDS:
                out.append(token.value)
            elif token.value in _FUNCTIONS:
                out.append(_FUNCTIONS[token.value])
            else:
                raise Untranslatable(f"the function {token.text}")
        elif token.kind == "word" and token.value in _WORDS:
            ordering = ordering or token.value == "BETWEEN"
            out.append({"ISNULL": "IS NULL", "NOTNULL": "IS NOT NULL"}.get(token.value, token.text))
        else:
            if _name(token).lower() in folded and not _null_test(tokens, index):
                raise Untranslatable("a comparison of texts that ignores case")
            index += _column(tokens, index, columns, names, out, kinds)
            continue
        index += 1
    if kinds & {"text", "loose_text", "string"} and ordering and not _lengths_only(tokens):
        raise Untranslatable("an ordering of texts, which depends on the collation")
    if kinds & _NUMERIC_KINDS and kinds & {"string", "loose_text"} and not kinds & _TEXT_KINDS:
        raise Untranslatable("a comparison of numbers with texts")
    text = ""
    for word in out:
        glue = not text or word in (")", ",") or text.endswith("(")
        glue = glue or word == "(" and text.endswith(tuple(_FUNCTIONS.values()))
        text += word if glue else f" {word}"
    return text


def _null_test(tokens: list[Token], index: int) -> bool:
    rest = tokens[index + 1 : index + 4]
    return bool(rest) and (
        rest[0].is_word("ISNULL", "NOTNULL")
        or rest[0].is_word("IS")
        and any(token.is_word("NULL") for token in rest[1:])
    )


def _lengths_only(tokens: list[Token]) -> bool:
    """Whether every text column stands inside length(), so that only numbers are ordered."""
    index = 0
    while index < len(tokens):
        token = tokens[index]
        if token.is_word("LENGTH") and index + 1 < len(tokens) and tokens[index + 1].is_op("("):
            index = closing(tokens, index + 1) + 1
            continue
        if token.kind in ("quoted", "string"):
            return False
        if token.kind == "word" and token.value not in _WORDS and token.value not in _FUNCTIONS:
            return False
        index += 1
    return True


def _column(
    tokens: list[Token],
    index: int,
    columns: dict[str, TargetType],
    names: dict[str, str],
    out: list[str],
    kinds: set[str],
) -> int:
    """Writes a column, and what it is compared with if it is a boolean; returns tokens used."""
    token = tokens[index]
    name = _name(token)
    if token.kind not in ("word", "quoted") or name.lower() not in columns:
        raise Untranslatable(f"{token.text}, which is no column")
    target = columns[name.lower()]
    if target.conversion and not _null_test(tokens, index):
        raise Untranslatable("a column whose values change their form")
    quoted = quote_identifier(names[name.lower()])
    rest = tokens[index + 1 : index + 4]
    if target.kind == "boolean":
        used = 1
        text = ""
        if len(rest) >= 2 and rest[0].text in ("=", "==", "<>", "!="):
            used, value = 3, rest[1].text
            text = {"==": "=", "!=": "<>"}.get(rest[0].text, rest[0].text)
        elif len(rest) >= 2 and rest[0].is_word("IS") and rest[1].text in ("0", "1"):
            used, value, text = 3, rest[1].text, "IS NOT DISTINCT FROM"
        if used == 3:
            if value not in ("0", "1"):
                raise Untranslatable("a comparison of a boolean with something else than 0 and 1")
            out.append(f"{quoted} {text} {'true' if value == '1' else 'false'}")
            return used
        if rest and not (rest[0].is_word("AND", "OR", "IS") or rest[0].is_op(")")):
            raise Untranslatable("a boolean used as a number")
        if index and not (
            tokens[index - 1].is_word("AND", "OR", "NOT") or tokens[index - 1].is_op("(")
        ):
            raise Untranslatable("a boolean used as a number")
    elif target.kind not in _NUMERIC_KINDS | _TEXT_KINDS:
        if not (rest and rest[0].is_word("IS", "ISNULL", "NOTNULL")):
            raise Untranslatable(f"a comparison of {target.sql} values")
    if not _null_test(tokens, index):
        kinds.add(target.kind)
    out.append(quoted)
    return 1


def _literal(tokens: list[Token]) -> Any:
    """A literal default's value as SQLite would store it before affinity."""
    sign = 1
    while tokens and tokens[0].kind == "op" and tokens[0].text in "+-":
        sign = -sign if tokens[0].text == "-" else sign
        tokens = tokens[1:]
    if len(tokens) == 1:
        token = tokens[0]
        if token.kind == "number":
            try:
                return sign * int(token.text, 0)
            except ValueError:
                pass
            try:
                return sign * (float(token.text) if not token.text.isdigit() else int(token.text))
            except ValueError:
                raise Untranslatable("a number that can't be read") from None
        if token.kind == "string" or token.kind == "quoted" and token.text[0] == '"':
            return token.value
        if token.kind == "blob":
            return bytes.fromhex(token.text[2:-1])
        if token.is_word("TRUE", "FALSE"):
            return int(token.is_word("TRUE"))
        if token.is_word("NULL"):
            return None
    raise Untranslatable("an expression of SQLite")


def _with_affinity(value: Any, target: TargetType) -> Any:
    """SQLite turns DEFAULT '0' of an INTEGER column into 0, and 0 of a TEXT one into '0'."""
    if isinstance(value, str) and target.kind in _NUMERIC_KINDS | {"boolean"}:
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    if isinstance(value, (int, float)) and target.kind == "text":
        return str(value)
    return value


def _now(expression: str, target: TargetType) -> str | None:
    if _UNIX_NOW.match(expression):
        if target.conversion == "epoch_s":
            utc = "" if target.kind == "timestamptz" else " AT TIME ZONE 'UTC'"
            return f"(date_trunc('second', CURRENT_TIMESTAMP){utc})::{target.kind}"
        if target.kind in ("bigint", "double", "numeric") and not target.conversion:
            return "floor(extract(epoch FROM CURRENT_TIMESTAMP))::bigint"
        raise Untranslatable(f"{expression} for a column of type {target.sql}")
    match = _NOW.match(expression)
    word = match.group(1).upper() if match else expression.upper().removeprefix("CURRENT_")
    if not match and expression.upper() not in (
        "CURRENT_TIMESTAMP",
        "CURRENT_DATE",
        "CURRENT_TIME",
    ):
        return None
    wanted = {"TIMESTAMP": "timestamp", "DATETIME": "timestamp", "DATE": "date", "TIME": "time"}
    kind = wanted[word]
    utc = "(CURRENT_TIMESTAMP AT TIME ZONE 'UTC')"
    if target.kind == "timestamptz" and kind == "timestamp":
        return "CURRENT_TIMESTAMP"
    if target.kind == kind:
        return utc if kind == "timestamp" else f"({utc})::{kind}"
    if target.kind == "text":
        form = {"timestamp": "YYYY-MM-DD HH24:MI:SS", "date": "YYYY-MM-DD", "time": "HH24:MI:SS"}
        return f"to_char({utc}, '{form[kind]}')"
    raise Untranslatable(f"{expression} for a column of type {target.sql}")


def translate_default(expression: str, target: TargetType) -> str | None:
    """SQL for PostgreSQL, or None for DEFAULT NULL."""
    text = expression.strip()
    while True:
        tokens = tokenize(text)
        if not tokens or not tokens[0].is_op("(") or closing(tokens, 0) != len(tokens) - 1:
            break
        text = text[1:-1].strip()
    now = _now(text, target)
    if now is not None:
        return now
    value = _with_affinity(_literal(tokens), target)
    if value is None:
        return None
    if target.kind == "other" or target.conversion not in (None, "naive_utc", "uuid_hex", "words"):
        raise Untranslatable(f"a value of SQLite for a column of type {target.sql}")
    try:
        encoded = encoder_for(target)(value)
        if target.kind in ("json", "jsonb"):
            check_json(value, target.kind == "jsonb")
    except BadValue as error:
        raise Untranslatable(f"{error}") from None
    if target.kind == "boolean":
        return "true" if encoded == "t" else "false"
    if target.kind in _NUMERIC_KINDS and not isinstance(value, str):
        return f"'{encoded}'" if encoded.endswith("Infinity") else encoded
    if target.kind == "bytea":
        return f"'\\x{value.hex()}'::bytea"
    if isinstance(value, str):
        return quote_literal(value)
    return quote_literal(encoded)
