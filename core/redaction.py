"""Removal of credentials from texts that are printed, stored or logged.

A login of a URI is found by the grammar of RFC 3986 (user information ends at the last @ of the authority, which ends at the first
slash), of SQLAlchemy (the password of a database may contain unescaped slashes), and leniently where a password contains other
characters that should have been percent-encoded. Secret parameters are found by their names in query strings, libpq and ODBC
connection strings, shell assignments and JSON, also if they are percent-encoded.
"""

import re
import shlex
from collections.abc import Iterable, Set
from urllib.parse import unquote

HIDDEN = "***"
"""Replacement of a secret in a text."""
DATABASES = {"postgres", "postgresql", "mysql", "mariadb", "mssql", "oracle", "mongodb", "redis", "cockroachdb"}
"""Schemes of databases, whose authority may contain a password with slashes."""
WEB = {"http", "https"}
"""Schemes in which a user name without a password is often a token."""
_START = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|(?i::%2f%2f|%3a%2f%2f))")
_NO_LOGIN = re.compile(r"(\[[^\]]*\]|[^:\[\]@]*)(:\d*)?(,[^:@]*(:\d*)?)*")
"""An authority without a login: a host or several, each with a port or without."""
_NAME = (
    r"(?:[A-Za-z0-9_.-]*(?:pass(?:word|wd|phrase)|pwd|secret|token|credential|api[_-]?key|(?:access|account|private|shared|secret)[_-]?key"
    r"|signature|authorization)[A-Za-z0-9_.-]*|sig|sas|pass)"
)
"""Names of secret parameters, alone or as a part of a longer name such as AWS_SECRET_ACCESS_KEY or X-Amz-Signature."""
_PARAMETER = re.compile(
    rf"(?i)(?<![A-Za-z0-9])(?P<name>{_NAME}(?:[\"']\s*:|\s*=|%3d|[\"']\s*,)\s*|--{_NAME}\s+(?!-))"
    r"(?P<value>'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\"|\{(?:[^}]|\}\})*\}|%7b.*?%7d"
    r"|(?:(?!;\s*[a-z][\w ]*=)[^&\s])*(?!;\s*[a-z][\w ]*=)[^&\s'\")\]},;])"
)
_WITH_SPACES = re.compile(rf"(?i)(?<=[?&])({_NAME}=)[^&?\n]*?(?=&[\w.-]+=)")
"""A secret parameter in the middle of a query string, whose value was not percent-encoded and may contain spaces."""
_LAST_OF_URI = re.compile(rf"(?i)\A([a-z][a-z0-9+.-]*://[^\n]*[?&]{_NAME}=)[^&\n]*\Z")
"""The last parameter of a text that is a URI and nothing else, whose value may contain spaces, too."""
_ENCODED_END = re.compile(r"(?i)%26|%3b|&|\s")
_HEADER = re.compile(
    r"(?i)(\bauthorization[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer|digest|token)\s+)?|\bbearer\s+)(?!auth|token)[^\s'\",]+"
)
_CONNECTION = re.compile(r"(?i)(odbc_connect=)([^&\s'\"]+)")


def redacted(text: str) -> str:
    """Replace the credentials in a text that may be printed, stored or logged.

    These are logins of URIs with a password, tokens before the host of a web address, and the values of secret parameters. A user
    name without a password and everything else stays, so that a printed command can be completed and used.
    """
    text = _without_logins(text)
    text = _CONNECTION.sub(lambda m: m[1] + (HIDDEN if _PARAMETER.search(unquote(m[2].replace("+", " "))) else m[2]), text)
    text = _LAST_OF_URI.sub(rf"\1{HIDDEN}", _WITH_SPACES.sub(rf"\1{HIDDEN}", text))
    text = _HEADER.sub(rf"\1{HIDDEN}", text)
    return _PARAMETER.sub(_hidden_value, text)


def redacted_command(words: Iterable[str]) -> str:
    """A command line in the syntax of a shell, without credentials."""
    return shlex.join(redacted(word.replace(" ", "%20") if "://" in word and has_secret(word) else word) for word in words)


def has_secret(text: str) -> bool:
    """Whether a text contains credentials that `redacted` would remove."""
    return redacted(text) != text


def _hidden_value(match: re.Match[str]) -> str:
    name, value = match["name"], match["value"]
    if name.lower().rstrip().endswith("%3d") and (end := _ENCODED_END.search(value)):
        return name + HIDDEN + redacted(value[end.start() :])
    return name + HIDDEN


def _without_logins(text: str) -> str:
    """The text with *** in place of the user information of each URI."""
    starts = list(_START.finditer(text))
    parts = [text[: starts[0].start()] if starts else text]
    for i, start in enumerate(starts):
        following = text[start.end() : starts[i + 1].start() if i + 1 < len(starts) else len(text)]
        encoded = start[2] != "://"
        login = _encoded_login(following) if encoded else _login(set(start[1].lower().split("+")), following)
        parts += [start[0], HIDDEN + following[login:] if login else following]
    return "".join(parts)


def _login(schemes: Set[str], following: str) -> int:
    """Length of the user information that must be removed after `scheme://`, for the parts of the scheme; 0 if there is none."""
    authority = _matched(r"[^/?#\s]*", following)
    word, is_database = _matched(r"[^?#\s]*", following), bool(schemes & DATABASES)
    user, at, _ = authority.rpartition("@")
    if at:
        if ":" not in user:
            return len(user) if schemes & WEB else 0
        return word.rindex("@") if is_database else len(user)
    if not authority or (_NO_LOGIN.fullmatch(authority) and not (is_database and "@" in word)):
        return 0
    if ":" not in authority:
        return 0
    for within in (word, _matched(r"\S*", following), _matched(r"[^\n@]*@\S*", following)):  # the password was not percent-encoded
        if "@" in within:
            return within.rindex("@")
    return 0


def _encoded_login(following: str) -> int:
    """Length of the user information of a percent-encoded URI."""
    word = _matched(r"(?i)(?:(?!%2f|%26)[^\s&])*", following)
    end = word.lower().rfind("%40")
    return end if end > 0 and ("%3a" in word[:end].lower() or ":" in word[:end]) else 0


def _matched(pattern: str, text: str) -> str:
    found = re.match(pattern, text)
    return found[0] if found else ""
