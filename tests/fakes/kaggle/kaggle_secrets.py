"""Kaggle's Secrets; a secret NAME is the variable PAGE_NAME. Put tests/fakes/kaggle on the path."""

from kaggle_web_client import BackendError, CredentialError, KaggleWebClient  # noqa: F401  both are exported


class ValidationError(Exception):
    pass


class UserSecretsClient:
    def __init__(self):
        self.web_client = KaggleWebClient()

    def get_secret(self, label):
        if not label:
            raise ValidationError("Label must be non-empty.")
        return self.web_client.make_post_request({"Label": label}, "/requests/GetUserSecretByLabelRequest")[
            "secret"
        ]
