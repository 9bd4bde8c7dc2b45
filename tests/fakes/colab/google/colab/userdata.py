"""Colab's Secrets. The real one blocks for 10 seconds before TimeoutException; this one does not wait."""

import os

from IPython import get_ipython


class NotebookAccessError(Exception):
    def __init__(self, key):
        super().__init__(f"Notebook does not have access to secret {key}")


class SecretNotFoundError(Exception):
    def __init__(self, key):
        super().__init__(f"Secret {key} does not exist.")


class TimeoutException(Exception):
    def __init__(self, key):
        super().__init__(f"Requesting secret {key} timed out.")


def get(key):
    get_ipython().kernel  # noqa: B018  an AttributeError in a plain Python process, as in the real one
    if os.environ.get("FAKE_COLAB") == "headless":
        raise TimeoutException(key)
    if f"PAGE_{key}" not in os.environ:
        raise SecretNotFoundError(key)
    if os.environ[f"PAGE_{key}"] == "denied":
        raise NotebookAccessError(key)
    return os.environ[f"PAGE_{key}"]
