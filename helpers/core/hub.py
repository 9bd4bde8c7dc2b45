"""The Hugging Face Hub: private repositories, and uploads that may fail. Nothing is scanned here."""

import os
from contextlib import suppress
from pathlib import Path

import httpx

from helpers.core import runtime

FAILURES = (httpx.HTTPError, OSError, RuntimeError)  # the last where a large file's upload fails


def log_in() -> None:
    """Give huggingface_hub the HF_TOKEN of the platform's secrets or `.env`, if any; private downloads need it."""
    with suppress(runtime.MissingSecret):
        os.environ["HF_TOKEN"] = runtime.secret("HF_TOKEN")


def open_repo(repo: str, kind: str = "model", private: bool = True):
    """An HfApi for `repo`, made where there is none; PermissionError for a public one, or MissingSecret."""
    from huggingface_hub import HfApi

    api = HfApi(token=runtime.secret("HF_TOKEN"))
    api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
    if private and not api.repo_info(repo, repo_type=kind).private:
        raise PermissionError(f"{repo} is public; nothing was uploaded. Make it private, or name another.")
    return api


def mirror(folder: Path, repo: str, kind: str, what: str, **options: object) -> None:
    """Upload `folder` to the private `repo`; a failure is printed only. `options` are upload_folder's."""
    try:
        api = open_repo(repo, kind)
        api.upload_folder(repo_id=repo, repo_type=kind, folder_path=folder, commit_message=what, **options)
        print(f"{what} is kept in the private {kind} repository {repo}")
    except FAILURES as error:
        print(f"{what} is kept here but not on the Hub yet ({type(error).__name__}: {error})")
