"""Secrets are hidden by the name they have and by what they look like."""

import pytest

from ingest.domain.redaction import names_secret, without_secrets

NAMES_OF_SECRETS = """
    postgres_dsn password sasl.password ssl.key.password ssl.keystore.password ssl.key.pem client_secret
    sasl.oauthbearer.client.secret sasl.oauthbearer.config token api_key apiKey private_key PGPASSWORD Authorization
"""

OTHER_NAMES = """
    sasl.username sasl.mechanism sasl.oauthbearer.token.endpoint.url ssl.ca.location ssl.key.location topic key
    recorder group kafka_bootstrap_servers
"""

TEXTS = [
    ("postgresql://app:geheim@db:5432/shop", "postgresql://app:********@db:5432/shop"),
    ("postgresql://app:p@ss:w/rd@db/shop failed", "postgresql://app:********@db/shop failed"),
    ("postgresql://app@db/shop", "postgresql://app@db/shop"),
    ("postgresql://db/shop?user=a&password=geheim&sslmode=require", "postgresql://db/shop?user=a&password=********&sslmode=require"),
    ("host=db password=geheim user=app", "host=db password=******** user=app"),
    ("host=db password='with \\' quote' user=app", "host=db password=******** user=app"),
    ("host=db password='never closed user=app", "host=db password=********"),
    ("host=db password='never closed\\", "host=db password=********"),
    ("sasl.password=geheim", "sasl.password=********"),
    ('{"password": "geheim", "user": "app"}', '{"password": ********, "user": "app"}'),
    ("client_secret: geheim, next", "client_secret: ********, next"),
    ("-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nrest", "********\nrest"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "********"),
    ('password authentication failed for user "app"', 'password authentication failed for user "app"'),
    ("plain text at 12:30", "plain text at 12:30"),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES_OF_SECRETS.split())
def test_names_of_secrets(name: str) -> None:
    """Values under these names are never shown."""
    assert names_secret(name)


@pytest.mark.parametrize("name", OTHER_NAMES.split())
def test_names_that_are_no_secrets(name: str) -> None:
    """Values under these names help to find a mistake."""
    assert not names_secret(name)


@pytest.mark.parametrize(("text", "shown"), TEXTS)
def test_texts(text: str, shown: str) -> None:
    """A password inside a longer text is hidden, the rest stays."""
    assert without_secrets(text) == shown
