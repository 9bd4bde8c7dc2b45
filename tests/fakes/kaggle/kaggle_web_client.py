"""The exceptions of Kaggle's client, and its calls: `FAKE_INTERNET=off` is the switch in the settings."""

import os


class CredentialError(Exception):
    pass


class BackendError(Exception):
    pass


class KaggleWebClient:
    def __init__(self):
        if "KAGGLE_USER_SECRETS_TOKEN" not in os.environ:
            raise CredentialError("A JWT Token is required to call Kaggle, but none found")

    def make_post_request(self, data, endpoint, timeout=40):
        if os.environ.get("FAKE_INTERNET") == "off":
            raise ConnectionError("Connection error trying to communicate with service.")
        label = data["Label"]
        if f"PAGE_{label}" not in os.environ:
            errors = {
                "errors": [f"No user secrets exist for kernel id 1 and label {label}."],
                "wasSuccessful": False,
            }
            raise BackendError(f"Unexpected response from the service. Response: {errors}.")
        return {"secret": os.environ[f"PAGE_{label}"]}
