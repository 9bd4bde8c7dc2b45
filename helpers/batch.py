"""OpenAI's Batch API: the requests of `teacher`, answered within a day and at half the price.

    answers = ask_all(requests, work_dir / "qa_journal.jsonl", model="gpt-4o",
                      response_model=QAPairs, max_cost_usd=2.0)

It may be interrupted, killed or continued on another day: the same call takes up the batches that are
under way, from `qa_batches.json` beside the journal, and finds one there whose creation was never noted by
its tag, a hash of its requests. The answers land in the same journal as the live ones. One process at a
time. It starts and collects batches; to stop one, use platform.openai.com/batches.

Facts from platform.openai.com/docs/guides/batch, its API reference and help.openai.com/articles/9197833,
read in November 2026: half the live price; at most 50,000 requests and 200 MB a file, and for each model
a number of input tokens in the queue; 24 hours, after which unfinished requests expire and finished ones
are charged; a cancelled batch keeps what it has; lines come in any order; files are kept for 30 days.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import accumulate, takewhile
from pathlib import Path
from urllib.parse import urlsplit

from helpers import files, teacher
from helpers.teacher import Answer, BudgetReached, Request, TeacherError

ENDPOINT = "/v1/chat/completions"
PRICE_SHARE = 0.5
MAX_REQUESTS, MAX_BYTES = 50_000, 200_000_000  # in one input file
KEPT_DAYS = 30
TAG = "requests"  # the name in a batch's metadata under which its tag stands
ENDED = ("completed", "failed", "expired", "cancelled")
TRIES = 3  # batches that a request is sent with, in one call of ask_all
LEAST_SHARE = 0.1  # of all requests: what the real figures leave of the budget is not spent on less
RETRIES = 60  # of a look at a batch under way: about eight minutes without a network end no long wait
LISTED_LATE = (0, 2, 5, 10)  # seconds between looks for a batch that may have been created


def ask_all(requests: list[Request], journal_path: Path, *, model: str, response_model: type,
            max_cost_usd: float, poll_seconds: float = 60.0) -> dict[str, Answer]:  # fmt: skip
    """The answers by key, in the order of `requests`; only keys that the journal lacks are asked.

    `max_cost_usd` covers all that this journal ever cost, and what batches under way may cost at most.
    Raises BudgetReached, TeacherError or runtime.MissingSecret; what was answered is in the journal.
    """
    run = _Run(requests, Path(journal_path), model, response_model, max_cost_usd, poll_seconds)
    if run.unanswered():
        run.connect()
        try:
            run.all()
        except KeyboardInterrupt:
            going = (
                ", ".join(batch["id"] for batch in run.under_way()) or "A batch that may have been started"
            )
            print(f"\n{going} goes on at OpenAI and is paid for. The same call takes it up; to stop it, use "
                  "platform.openai.com/batches")  # fmt: skip
            raise
    have = teacher.answered(run.journal)
    return {request.key: have[request.key] for request in requests}


def _custom_id(key: str) -> str:
    return key if len(key) <= 64 else files.content_id(key)


def _status(line: dict) -> int:
    """The HTTP status of a result line; 0 for one that was never carried out or has no answer in it."""
    response = line.get("response") or {}
    status = response.get("status_code") or 0
    return 0 if status == 200 and not response["body"].get("choices") else status


def _said(line: dict) -> str:
    body = (line.get("response") or {}).get("body") or {}
    return str((body.get("error") or line.get("error") or {}).get("message", "no answer"))[:300]


class _Run:
    """One call of ask_all. `batches` is the state file: a dict a batch, whose "state" is one of

    asked (may have been created), running, done, failed (nothing is paid), gone (its results expired).
    """

    def __init__(self, requests, journal: Path, model: str, response_model, max_cost_usd: float, poll: float):
        self.requests = {request.key: request for request in requests}
        self.journal, self.model, self.max_cost_usd, self.poll = journal, model, max_cost_usd, poll
        self.state = journal.with_name(f"{journal.stem.removesuffix('_journal')}_batches.json")
        self.batches: list[dict] = json.loads(self.state.read_text("utf-8")) if self.state.exists() else []
        schema = {"name": response_model.__name__, "strict": True}
        schema["schema"] = response_model.model_json_schema()
        self.format = {"type": "json_schema", "json_schema": schema}
        self.size, self.one_by_one = MAX_REQUESTS, False
        self.tries, self.problems = Counter(), {}

    def connect(self) -> None:
        import openai

        self.base_url = os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        self.key = teacher._key(self.base_url)
        web = openai.DefaultHttpxClient(trust_env=not teacher._is_own(self.base_url))
        self.client = openai.OpenAI(
            api_key=self.key, base_url=self.base_url, max_retries=4, timeout=600, http_client=web
        )
        self.patient = self.client.with_options(max_retries=RETRIES)

    def all(self) -> None:
        """Take up, send and collect until nothing more can be answered."""
        from tqdm import tqdm

        spent = self._journal_cost()
        self._take_up()
        with tqdm(total=len(self.requests), desc=self.model, file=sys.stderr) as self.bar:
            while True:
                self._send()
                missing = self.unanswered().keys()
                waiting = [batch for batch in self.under_way() if missing & set(batch["keys"])]
                if not waiting:
                    break
                self._collect(*self._wait(waiting))
        done = len(self.requests) - len(missing)
        print(f"{done} of {len(self.requests)} requests are answered; this call collected answers for "
              f"${self._journal_cost() - spent:.4f}")  # fmt: skip
        if given_up := [key for key in missing if self.tries[key] >= TRIES]:
            raise TeacherError(
                f"{len(given_up)} requests have no answer after {TRIES} batches, for example {given_up[0]!r}: "
                f"{self.problems[given_up[0]]}. {self.journal.name} keeps the others: the same call asks the rest."
            )
        if missing:
            raise BudgetReached(
                f"{done} of {len(self.requests)} requests are answered, for ${self._journal_cost():.4f}; the "
                f"other {len(missing)} may cost up to ${sum(self._most(key) for key in missing):.4f}, which is "
                f"more than max_cost_usd = {self.max_cost_usd} leaves. {self.journal.name} keeps the answers: "
                "the same call with a higher max_cost_usd asks and pays only for the rest."
            )

    def unanswered(self) -> dict[str, Request]:
        have = teacher.answered(self.journal)
        return {key: request for key, request in self.requests.items() if key not in have}

    def under_way(self) -> list[dict]:
        return [batch for batch in self.batches if batch["state"] == "running"]

    def _save(self, batch: dict, **changes: object) -> None:
        batch |= changes
        files.write_json(self.state, self.batches)

    def _journal_cost(self) -> float:
        rows = files.read_jsonl(self.journal) if self.journal.exists() else []
        return sum(row["cost_usd"] for row in rows)

    def _body(self, request: Request) -> dict:
        messages = [{"role": "system", "content": request.system}, {"role": "user", "content": request.user}]
        body = {"model": self.model, "messages": messages, "max_tokens": request.max_tokens}
        return body | {"response_format": self.format}

    def _most(self, key: str) -> float:
        """The most that a request can cost: no tokenizer makes more tokens than bytes."""
        request = self.requests[key]
        most = len(json.dumps(self._body(request), ensure_ascii=False).encode())
        return PRICE_SHARE * teacher.cost(self.model, most, request.max_tokens)

    def _take_up(self) -> None:
        """Find out about batches whose creation an earlier process did not live to note."""
        for batch in self.batches:
            if batch["state"] == "asked":
                found = self._find(batch["tag"], LISTED_LATE)
                self._save(batch, id=found, state="running" if found else "failed")

    def _send(self) -> None:
        """Start batches of what is missing, as far as the budget, the limits and the queue allow."""
        pending = {key for batch in self.under_way() for key in batch["keys"]}
        keys = [key for key in self.unanswered() if key not in pending and self.tries[key] < TRIES]
        left = self.max_cost_usd - self._journal_cost() - sum(b["usd_at_most"] for b in self.under_way())
        fit = len(list(takewhile(lambda usd: usd <= left, accumulate(map(self._most, keys)))))
        if self.tries and fit < min(len(keys), LEAST_SHARE * len(self.requests)):
            return
        keys = keys[:fit]
        while keys and not (self.one_by_one and self.under_way()):
            bodies = [(_custom_id(key), self._body(self.requests[key])) for key in keys[: self.size]]
            row = {"method": "POST", "url": ENDPOINT}
            lines = [json.dumps({"custom_id": name, **row, "body": body}) for name, body in bodies]
            sizes = accumulate(len(line) + 1 for line in lines)
            count = max(1, len(list(takewhile(lambda size: size <= MAX_BYTES, sizes))))
            self._start(keys[:count], lines[:count])
            keys = keys[count:]

    def _start(self, keys: list[str], lines: list[str]) -> None:
        """One batch: noted as asked, then created, then noted as running. Each step finds the one before."""
        tag = files.content_id(lines)
        batch = {"id": None, "state": "asked", "tag": tag, "model": self.model, "keys": keys}
        batch["usd_at_most"] = sum(map(self._most, keys))
        found = self._find(tag)  # also where the work_dir was lost with the machine that it was on
        self.batches.append(batch)
        self._save(batch)
        self.tries.update(keys)
        if not found:
            with self._explained("uploading the requests"):
                data = "\n".join([*lines, ""]).encode()
                file = self.client.files.create(file=(f"{tag}.jsonl", data), purpose="batch")
            found = self._create(file.id, batch)
        self._save(batch, id=found, state="running")
        print(f"{found}: {len(keys)} requests for at most ${batch['usd_at_most']:.4f}, half the live price. It "
              "may take a day; interrupt this whenever you like, the same call goes on")  # fmt: skip

    def _create(self, file_id: str, batch: dict) -> str:
        """The id of the new batch. Sent once, whatever comes back: a second one would be paid as well."""
        import openai

        create = self.client.with_options(max_retries=0).batches.create
        metadata = {TAG: batch["tag"]}
        with self._explained("starting the batch"):
            try:
                return create(
                    input_file_id=file_id, endpoint=ENDPOINT, completion_window="24h", metadata=metadata
                ).id
            except (openai.APIConnectionError, openai.InternalServerError) as error:
                lost = str(error)
            except openai.APIStatusError:
                self._save(batch, state="failed")
                raise
        if found := self._find(batch["tag"], LISTED_LATE):
            return found
        raise TeacherError(
            f"The answer to the start of a batch was lost ({lost[:200]}), and no such batch is listed. Run this "
            "again in some minutes: it looks once more before it starts another."
        )

    def _find(self, tag: str, pauses: tuple[float, ...] = (0,)) -> str | None:
        """The id of a batch of the last 30 days with this tag that the state file does not know."""
        known, oldest = {batch["id"] for batch in self.batches}, time.time() - KEPT_DAYS * 86400
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

    def _wait(self, waiting: list[dict]) -> tuple[dict, object]:
        """The first batch that ended, as the state file and as the server describe it."""
        answered = len(self.requests) - len(self.unanswered())
        while True:
            counts, shown = 0, []
            for batch in waiting:
                absent = (
                    f"Is OPENAI_API_KEY the account's that started it? If it is gone, delete {self.state}"
                )
                with self._explained(f"asking for {batch['id']}", absent):
                    found = self.patient.batches.retrieve(batch["id"])
                if found.status in ENDED:
                    return batch, found
                done = found.request_counts.completed if found.request_counts else 0
                counts += done
                minutes = (time.time() - found.created_at) / 60
                shown.append(f"{batch['id']} {found.status}, {done}/{len(batch['keys'])}, {minutes:.0f} min")
            self.bar.n = min(self.bar.total, answered + counts)
            self.bar.set_postfix_str("; ".join(shown))
            time.sleep(self.poll)

    def _collect(self, batch: dict, found) -> None:
        """Journal the results of an ended batch, then note it as done. Raises TeacherError after that."""
        if found.status == "failed":
            return self._failed(batch, found)
        have, model = teacher.answered(self.journal), batch["model"]
        keys = {_custom_id(key): key for key in batch["keys"] if key not in have}
        lines = [*self._lines(batch, found.output_file_id), *self._lines(batch, found.error_file_id)]
        statuses = Counter(map(_status, lines))
        if 400 in statuses and 200 not in statuses and not any(a.model == model for a in have.values()):
            self._save(batch, state="failed")
            raise TeacherError(
                f"{model!r} refused all {len(lines)} requests of {batch['id']}: {_said(lines[0])}. Nothing is "
                "paid. Choose another teacher_model, or mode='live', which also works without JSON schemas."
            )
        fatal = None
        for line in lines:
            status, key = _status(line), keys.pop(line.get("custom_id"), None)
            if key is None:
                continue
            if status == 200:
                self._keep(key, model, line["response"]["body"])
            elif status in (400, 422):  # this text is refused for good: a reason, not asked again
                refused = Answer(key, model, "", f"refused: {_said(line)}", 0, 0, 0.0)
                files.append_jsonl(self.journal, asdict(refused))
            else:
                self.problems[key] = f"{status} {_said(line)}"
                fatal = fatal or (
                    f"{self.problems[key]}. {teacher.FIXES[status]}" if 400 < status < 405 else None
                )
        self.problems |= {key: f"its batch is {found.status}" for key in keys.values()}
        self._save(batch, state="done")
        again = len(self.unanswered().keys() & set(batch["keys"]))
        print(f"{batch['id']}: {found.status}, {len(batch['keys']) - again} of {len(batch['keys'])} answered")
        if fatal or found.status == "cancelled":
            raise TeacherError(
                f"{batch['id']} {fatal or 'was cancelled'}. {again} of its requests have no answer; "
                f"{self.journal.name} keeps the others. The same call asks those {again} in a new batch."
            )

    def _keep(self, key: str, model: str, body: dict) -> None:
        used, choice = body["usage"], body["choices"][0]
        tokens = (used["prompt_tokens"], used["completion_tokens"])
        usd = PRICE_SHARE * teacher.cost(model, *tokens)
        text = choice["message"]["content"] or ""
        files.append_jsonl(
            self.journal, asdict(Answer(key, model, text, choice["finish_reason"], *tokens, usd))
        )

    def _failed(self, batch: dict, found) -> None:
        """A batch that was refused as a whole, unpaid. One that is too long for the queue is halved."""
        errors = (found.errors and found.errors.data) or []
        self._save(batch, state="failed")
        said = "; ".join(f"{error.code}: {error.message}" for error in errors[:3]) or "no reason was given"
        queue = any(error.code == "token_limit_exceeded" for error in errors)
        if not queue or len(batch["keys"]) == 1:
            fix = "Other batches of the account may fill its queue: wait for them." if queue else ""
            raise TeacherError(f"{batch['id']} was refused, unpaid: {said[:600]}. {fix}")
        self.size, self.one_by_one = min(self.size, len(batch["keys"]) // 2), True
        self.tries.subtract(batch["keys"])
        print(f"{batch['id']} is too long for the account's queue ({said[:300]}): from here on batches of at "
              f"most {self.size} requests, one after another")  # fmt: skip

    def _lines(self, batch: dict, file_id: str | None) -> list[dict]:
        if not file_id:
            return []
        import openai

        with self._explained(f"downloading the results of {batch['id']}"):
            try:
                text = self.patient.files.content(file_id).content.decode()
            except openai.NotFoundError:
                self._save(batch, state="gone")
                raise TeacherError(
                    f"The results of {batch['id']} are gone: OpenAI keeps them for {KEPT_DAYS} days. The same "
                    "call asks its requests again, which is paid again."
                ) from None
            return [json.loads(line) for line in text.split("\n") if line.strip()]

    @contextlib.contextmanager
    def _explained(self, doing: str, absent: str = "") -> Iterator[None]:
        """Turn the client's errors into a TeacherError; `absent` is the fix where a path is not there."""
        import openai

        try:
            yield
        except (openai.APIError, json.JSONDecodeError) as error:
            status = error.status_code if isinstance(error, openai.APIStatusError) else 0
            fix = absent if absent and status in (404, 405, 501) else teacher.FIXES.get(status, "Is it up?")
            said = " ".join(str(error).replace(self.key, "[OPENAI_API_KEY]").split())[:400]
            raise TeacherError(
                f"{urlsplit(self.base_url).hostname} failed at {doing}: {said}. {fix}. {self.journal.name} and "
                f"{self.state.name} keep what there is: the same call goes on from there."
            ) from None
