"""The Hugging Face Hub: private repositories, and uploads that a bad network cannot turn into a loss.

Nothing is scanned here: what goes public passes through `helpers.publish.dataset`.
"""

from __future__ import annotations

import os
from pathlib import Path

from helpers.core import runtime


def failures() -> tuple[type[Exception], ...]:
    """What an upload raises when the network or the Hub fails; of a large file, huggingface_hub's RuntimeError."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    return HfHubHTTPError, httpx.HTTPError, OSError, RuntimeError


def log_in() -> None:
    """Give huggingface_hub the HF_TOKEN of the platform's secrets or `.env`, if any; private downloads need it."""
    try:
        os.environ["HF_TOKEN"] = runtime.secret("HF_TOKEN")
    except runtime.MissingSecret:
        return


def open_repo(repo: str, kind: str = "model", private: bool = True):
    """An HfApi for the repository `repo` of this kind (model or dataset), which is made where there is none.

    Raises PermissionError when `private` is wanted and it is public, MissingSecret without HF_TOKEN.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=runtime.secret("HF_TOKEN"))
    api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
    if private and not api.repo_info(repo, repo_type=kind).private:
        what = "is public, and what would go there is not for everybody; nothing was uploaded"
        raise PermissionError(f"{repo} {what}. Make it private in its settings on the Hub, or name another.")
    return api


def mirror(folder: Path, repo: str, kind: str, what: str, **options: object) -> None:
    """Upload `folder` to the private `repo` in one commit. A failure is printed and costs nothing but itself.

    `options` go to huggingface_hub's `upload_folder`, such as ignore_patterns or path_in_repo.
    """
    try:
        api = open_repo(repo, kind)
        api.upload_folder(repo_id=repo, repo_type=kind, folder_path=folder, commit_message=what, **options)
    except failures() as error:
        print(f"{what} is kept here but not on the Hub yet ({type(error).__name__}: {error})")
    else:
        print(f"{what} is kept in the private {kind} repository {repo}")
