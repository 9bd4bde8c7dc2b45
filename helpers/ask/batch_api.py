"""HTTP calls to OpenAI's files and batches endpoints: start a batch once, look at it, fetch its results.

It knows no requests and no journal: that is `batch`, the only module that uses it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from helpers.ask import answers, teacher
from helpers.ask.teacher import TeacherError

ENDPOINT = "/v1/chat/completions"
KEPT_DAYS = 30
TAG = "requests"  # the name in a batch's metadata under which its tag stands
RETRIES = 60  # of a look at a batch under way: eight minutes without a network don't end a wait of hours
LISTED_LATE = (0, 2, 5, 10)  # seconds between looks for a batch that may have been created


class Service:
    """OPENAI_BASE_URL's Batch API. All errors are TeacherError; runtime.MissingSecret without a key."""

    def __init__(self):
        import openai

        self.base_url = answers.base_url()
        self.key = teacher.api_key(self.base_url)
        web = openai.DefaultHttpxClient(trust_env=not answers.is_own(self.base_url))
        options = {"base_url": self.base_url, "timeout": 600, "max_retries": 4, "http_client": web}
        self.client = openai.OpenAI(api_key=self.key, **options)
        self.patient = self.client.with_options(max_retries=RETRIES)

    def find(self, tag: str, known: set[str], pauses: tuple[float, ...] = (0,)) -> str | None:
        """The id of a batch of the last 30 days with this tag, one that is not among the `known`."""
        oldest = time.time() - KEPT_DAYS * 86400
        for pause in pauses:
            time.sleep(pause)
            with self._explained("listing the batches", absent="It has no Batch API: use mode='live'"):
                for found in self.client.batches.list(limit=100):  # the newest first, page by page
                    if found.created_at < oldest:
                        break
                    same = (found.metadata or {}).get(TAG) == tag
                    if same and found.id not in known and found.status != "failed":
                        return found.id
        return None

    def create(self, tag: str, lines: list[str]) -> str | None:
        """The id of the new batch; None when the answer was lost, and nobody knows whether it exists.

        Sent once, whatever comes back: a second one would be paid as well.
        """
        import openai

        with self._explained("uploading the requests"):
            data = "\n".join([*lines, ""]).encode()
            file = self.client.files.create(file=(f"{tag}.jsonl", data), purpose="batch")
        create = self.client.with_options(max_retries=0).batches.create
        options = {"endpoint": ENDPOINT, "completion_window": "24h", "metadata": {TAG: tag}}
        with self._explained("starting the batch"):
            try:
                return create(input_file_id=file.id, **options).id
            except (openai.APIConnectionError, openai.InternalServerError):
                return None

    def retrieve(self, name: str):
        """The batch as the server describes it: an openai.types.Batch."""
        with self._explained(f"asking for {name}", absent="Is OPENAI_API_KEY the account's that started it?"):
            return self.patient.batches.retrieve(name)

    def results(self, ended) -> list[dict]:
        """The lines of an ended batch's output and error files, in any order."""
        lines, gone = (
            [],
            f"OpenAI keeps results for {KEPT_DAYS} days. To pay for new ones, delete qa_batches.json",
        )
        with self._explained(f"downloading the results of {ended.id}", absent=gone):
            for file_id in filter(None, (ended.output_file_id, ended.error_file_id)):
                text = self.patient.files.content(file_id).content.decode()
                lines += [json.loads(line) for line in text.split("\n") if line.strip()]
        return lines

    @contextlib.contextmanager
    def _explained(self, doing: str, absent: str = "") -> Iterator[None]:
        """Turn the client's errors into a TeacherError; `absent` is the fix where a path is not there."""
        import openai

        try:
            yield
        except (openai.APIError, json.JSONDecodeError) as error:
            status = error.status_code if isinstance(error, openai.APIStatusError) else 0
            fix = absent if absent and status in (404, 405, 501) else teacher.FIXES.get(status, "Is it up?")
            problem = " ".join(str(error).replace(self.key, "[OPENAI_API_KEY]").split())[:400]
            raise TeacherError(
                f"{urlsplit(self.base_url).hostname} failed at {doing}: {problem}. {fix}. What is answered or under "
                "way is kept: the same call goes on from there."
            ) from None
