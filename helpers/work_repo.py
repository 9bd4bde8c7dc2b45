"""One notebook's results for the next in another runtime: work_dir in a private data set on the Hugging Face Hub.

Set the environment variable WORK_REPO, such as your-name/work, and HF_TOKEN. Then `runtime.open_work_dir` fetches
what the folder lacks, and `files.finish_stage` uploads what a finished notebook left. It never makes anything
public. Checkpoints are too large for this; notebook 05 has `checkpoint_repo` for them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import runtime

if TYPE_CHECKING:
    from huggingface_hub import HfApi

STAYS = ["checkpoints/**", "executed/**", ".*", "**/.*"]


def _private_repo() -> tuple[HfApi, str]:
    from huggingface_hub import HfApi

    repo, api = os.environ["WORK_REPO"], HfApi(token=runtime.secret("HF_TOKEN"))
    api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
    if not api.repo_info(repo, repo_type="dataset").private:
        raise PermissionError(
            f"WORK_REPO = {repo!r} is public, and work_dir holds reviews as they were written. Make it private in its "
            "settings on the Hub, or name another."
        )
    return api, repo


def fetch() -> Path:
    """A folder with what the data set holds; an empty data set is made where there is none."""
    api, repo = _private_repo()
    return Path(api.snapshot_download(repo, repo_type="dataset"))


def keep(work_dir: Path, stage: str) -> None:
    """Upload work_dir after `stage`. A failure is reported and costs nothing: the next notebook takes all along."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api, repo = _private_repo()
        api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=work_dir,
            ignore_patterns=STAYS,
            commit_message=f"After {stage}",
        )
    except (HfHubHTTPError, httpx.HTTPError, OSError) as error:
        print(f"WORK_REPO: work_dir is kept here but not on the Hub yet ({type(error).__name__}: {error})")
    else:
        print(f"work_dir is kept in the private data set {repo}")
