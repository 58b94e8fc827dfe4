"""What must not be shown: which names hold secrets, and how to hide them inside a text.

Logs, error messages and `tallystream settings` share these rules, so that a secret that one of
them hides is hidden by all. Text in, text out; too much hidden is better than too little.
"""

import re

HIDDEN = "********"

_SECRET_NAME = re.compile(
    r"passw|passphrase|passwd|secret|token(?!\.endpoint)|credential|private.?key|key.?pem|api.?key|dsn"
    r"|conninfo|oauthbearer.config|authorization",
    re.IGNORECASE,
)

# Everything up to the last @ of the word: a password may contain one that nobody encoded.
_PASSWORD_IN_URI = re.compile(r"(?P<before>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)\S*(?P<after>@)", re.IGNORECASE)

_PASSWORD_IN_PAIRS = re.compile(
    r"(?P<before>\b[\w.]*(?:password|passphrase|secret)[\"']?\s*[=:]\s*)"
    # A quote that nobody closed reaches to the end.
    r"(?:'(?:[^'\\]|\\.)*(?:'|\\?\Z)|\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z)|[^\s&'\",;)]+)",
    re.IGNORECASE | re.DOTALL,
)

_PEM = re.compile(r"-----BEGIN (?P<what>[A-Z ]*PRIVATE KEY)-----.*?(?:-----END (?P=what)-----|\Z)", re.DOTALL)


def names_secret(name: str) -> bool:
    """Tell whether the value under this name (of a setting, an option, a log field) is a secret."""
    return _SECRET_NAME.search(name) is not None


def without_secrets(text: str) -> str:
    """Hide passwords in connection strings and `name=value` pairs, and private keys, in a text."""
    text = _PASSWORD_IN_URI.sub(rf"\g<before>{HIDDEN}\g<after>", text)
    text = _PASSWORD_IN_PAIRS.sub(rf"\g<before>{HIDDEN}", text)
    return _PEM.sub(HIDDEN, text)
