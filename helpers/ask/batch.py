"""OpenAI's Batch API: the requests of `teacher`, answered within a day and at half the price.

    answers = ask_all(requests, work_dir / "qa_journal.jsonl", model="gpt-4o",
                      response_model=QAPairs, max_cost_usd=2.0)

It may be interrupted, killed or continued on another day: the same call takes up the batches that are
under way, from `qa_batches.json` beside the journal, and finds one there whose creation was never noted by
its tag, a hash of its requests. The answers land in the journal of the live ones. An answer that is cut
off or malformed is kept as it is: another one would take another day. One process at a time. It cancels
nothing: for that there is platform.openai.com/batches.

Facts from platform.openai.com/docs/guides/batch, its API reference and help.openai.com/articles/9197833,
read in November 2026: half the live price; at most 50,000 requests and 200 MB a file, and for each model
a number of input tokens in the queue; 24 hours, after which unfinished requests expire and finished ones
are charged; a cancelled batch keeps what it has; lines come in any order; files are kept for 30 days.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict
from itertools import accumulate, takewhile
from pathlib import Path

from helpers.ask import batch_api, teacher
from helpers.ask.answers import Answer, Reply, Request, answered, cost, response_format, summary
from helpers.ask.teacher import BudgetReached, TeacherError
from helpers.core import files

PRICE_SHARE = 0.5
MAX_REQUESTS, MAX_BYTES = 50_000, 200_000_000  # in one input file
ENDED = ("completed", "failed", "expired", "cancelled")
REFUSED = (400, 413, 422)  # this text will not be taken another time either
TRIES = 3  # batches that a request is sent with, in one call of ask_all
LEAST_SHARE = 0.1  # of all requests: what the real figures leave of the budget is not spent on less


def ask_all(requests: list[Request], journal_path: Path, *, model: str, response_model: type,
            max_cost_usd: float, poll_seconds: float = 60.0) -> dict[str, Answer]:  # fmt: skip
    """What ended each request, by key, in the order of `requests`; only what the journal lacks is asked.

    `max_cost_usd` covers all that this journal ever cost, and what batches under way may cost at most.
    Raises BudgetReached, TeacherError or runtime.MissingSecret; what was answered is in the journal.
    """
    run = _Run(requests, Path(journal_path), model, response_model, max_cost_usd, poll_seconds)
    if run.unanswered():
        run.service = batch_api.Service()
        try:
            run.all()
        except KeyboardInterrupt:
            going = ", ".join(each["id"] for each in run.under_way()) or "A batch that may have been started"
            print(f"\n{going} goes on at OpenAI and is paid for. The same call takes it up; to stop it, use "
                  "platform.openai.com/batches")  # fmt: skip
            raise
    have = answered(run.journal) | run.failed
    return {request.key: have[request.key] for request in requests}


def _custom_id(key: str) -> str:
    return key if len(key) <= 64 else files.content_id(key)


def _status(line: dict) -> int:
    """The HTTP status of a result line; 0 for one that was never carried out or has no answer in it."""
    response = line.get("response") or {}
    status, body = response.get("status_code") or 0, response.get("body") or {}
    return 0 if status == 200 and not (body.get("choices") and body.get("usage")) else status


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
        self.format = response_format(response_model)
        self.size, self.one_by_one = MAX_REQUESTS, False
        self.tries, self.problems, self.failed = Counter(), {}, {}

    def all(self) -> None:
        """Take up, send and collect until nothing more can be answered."""
        from tqdm import tqdm

        before, total = summary(self.journal)["usd"], len(self.requests)
        self._take_up()
        with tqdm(total=total, desc=self.model, file=sys.stderr) as self.bar:
            while True:
                self._send()
                missing = self.unanswered().keys()
                waiting = [each for each in self.under_way() if missing & set(each["keys"])]
                if not waiting:
                    break
                self._collect(*self._wait(waiting))
        spent, done = summary(self.journal)["usd"], total - len(missing)
        print(
            f"{done} of {total} requests are answered; this call collected answers for ${spent - before:.4f}"
        )
        for key in missing:
            if self.tries[key] >= TRIES:  # as in a live run: a reason for now, and the next call asks again
                reason = f"failed ({self.problems[key]}, in {TRIES} batches)"
                self.failed[key] = Answer(key, self.model, "", "failed", 0, 0, 0.0, reason)
        if self.failed and not done:
            raise TeacherError(
                f"None of {total} requests is answered: {next(iter(self.failed.values())).reason}"
            )
        if missing := missing - self.failed.keys():
            raise BudgetReached(
                f"{done} of {total} requests are answered, for ${spent:.4f}; the other {len(missing)} may cost "
                f"up to ${sum(map(self._most, missing)):.4f}, which is more than max_cost_usd = "
                f"{self.max_cost_usd} leaves. {self.journal.name} keeps the answers: the same call with a "
                "higher max_cost_usd asks and pays only for the rest."
            )

    def unanswered(self) -> dict[str, Request]:
        have = answered(self.journal)
        return {key: request for key, request in self.requests.items() if key not in have}

    def under_way(self) -> list[dict]:
        return [each for each in self.batches if each["state"] == "running"]

    def _save(self, batch: dict, **changes: object) -> None:
        batch |= changes
        files.write_json(self.state, self.batches)

    def _find(self, tag: str, pauses: tuple[float, ...] = (0,)) -> str | None:
        return self.service.find(tag, {each["id"] for each in self.batches}, pauses)

    def _body(self, request: Request) -> dict:
        return request.body(self.model) | self.format

    def _most(self, key: str) -> float:
        """The most that a request can cost: no tokenizer makes more tokens than bytes."""
        request = self.requests[key]
        most = len(json.dumps(self._body(request), ensure_ascii=False).encode())
        return PRICE_SHARE * cost(self.model, most, request.max_tokens)

    def _take_up(self) -> None:
        """Find out about batches whose creation an earlier process did not live to note."""
        for batch in self.batches:
            if batch["state"] == "asked":
                found = self._find(batch["tag"], batch_api.LISTED_LATE)
                self._save(batch, id=found, state="running" if found else "failed")

    def _send(self) -> None:
        """Start batches of what is missing, as far as the budget, the limits and the queue allow."""
        going = self.under_way()
        pending = {key for each in going for key in each["keys"]}
        keys = [key for key in self.unanswered() if key not in pending and self.tries[key] < TRIES]
        left = self.max_cost_usd - summary(self.journal)["usd"] - sum(each["usd_at_most"] for each in going)
        fit = len(list(takewhile(lambda usd: usd <= left, accumulate(map(self._most, keys)))))
        if self.tries and fit < min(len(keys), LEAST_SHARE * len(self.requests)):
            return
        keys = keys[:fit]
        while keys and not (self.one_by_one and self.under_way()):
            lines = []
            for key in keys[: self.size]:
                line = {"custom_id": _custom_id(key), "method": "POST", "url": batch_api.ENDPOINT}
                lines.append(json.dumps(line | {"body": self._body(self.requests[key])}))
            sizes = accumulate(len(line) + 1 for line in lines)
            count = max(1, len(list(takewhile(lambda size: size <= MAX_BYTES, sizes))))
            self._start(keys[:count], lines[:count])
            keys = keys[count:]

    def _start(self, keys: list[str], lines: list[str]) -> None:
        """One batch: noted as asked, created, noted as running. A kill between any two loses nothing."""
        tag = files.content_id(lines)
        found = self._find(tag)  # also where the work_dir was lost with the machine that it was on
        batch = {"id": None, "state": "asked", "tag": tag, "model": self.model, "keys": keys}
        batch["usd_at_most"] = sum(map(self._most, keys))
        self.batches.append(batch)
        self._save(batch)
        self.tries.update(keys)
        try:
            found = found or self.service.create(tag, lines)
        except TeacherError:
            self._save(batch, state="failed")
            raise
        found = found or self._find(tag, batch_api.LISTED_LATE)
        if not found:
            raise TeacherError(
                "The answer to the start of a batch was lost, and no such batch is listed. Run this again in some "
                "minutes: it looks once more before it starts another."
            )
        self._save(batch, id=found, state="running")
        print(f"{found}: {len(keys)} requests for at most ${batch['usd_at_most']:.4f}, half the live price. It "
              "may take a day; interrupt this whenever you like, the same call goes on")  # fmt: skip

    def _wait(self, waiting: list[dict]) -> tuple[dict, object]:
        """The first batch that ended, as the state file and as the server describe it."""
        before = len(self.requests) - len(self.unanswered())
        while True:
            counts, shown = 0, []
            for batch in waiting:
                found = self.service.retrieve(batch["id"])
                if found.status in ENDED:
                    return batch, found
                done = found.request_counts.completed if found.request_counts else 0
                minutes = (time.time() - found.created_at) / 60
                shown.append(f"{found.id} {found.status}, {done}/{len(batch['keys'])}, {minutes:.0f} min")
                counts += done
            self.bar.n = min(self.bar.total, before + counts)
            self.bar.set_postfix_str("; ".join(shown))
            time.sleep(self.poll)

    def _collect(self, batch: dict, found) -> None:
        """Journal the results of an ended batch, then note it as done. Raises TeacherError after that."""
        if found.status == "failed":
            return self._failed(batch, found)
        try:
            lines = self.service.results(found)
        except batch_api.ResultsGone:
            self._save(batch, state="gone")
            raise
        have, statuses, rows, fatal = answered(self.journal), set(map(_status, lines)), [], ""
        works = 200 in statuses or any(answer.model == batch["model"] for answer in have.values())
        if not works and statuses & set(REFUSED):
            self._save(batch, state="failed")
            raise TeacherError(
                f"{batch['model']!r} refused all {len(lines)} requests of {found.id}: {_said(lines[0])}. Nothing "
                "is paid. Choose another teacher_model, or mode='live', which also works without JSON schemas."
            )
        keys = {_custom_id(key): key for key in batch["keys"] if key not in have}
        for line in lines:
            status, key = _status(line), keys.pop(line.get("custom_id"), None)
            if key and (status == 200 or status in REFUSED):
                rows.append(asdict(self._answer(key, batch["model"], status, line)))
            elif key:
                self.problems[key] = f"{status} {_said(line)}"
                fatal = fatal or (
                    f"{self.problems[key]}. {teacher.FIXES[status]}" if 400 < status < 405 else ""
                )
        if rows:
            files.append_jsonl(self.journal, *rows)
        self.problems |= {key: f"its batch is {found.status}" for key in keys.values()}
        self._save(batch, state="done")
        again = len(self.unanswered().keys() & set(batch["keys"]))
        print(f"{found.id}: {found.status}, {len(batch['keys']) - again} of {len(batch['keys'])} answered")
        if fatal or found.status == "cancelled":
            raise TeacherError(
                f"{found.id}: {fatal or 'it was cancelled'}. {again} of its requests have no answer; "
                f"{self.journal.name} keeps the others. The same call asks those {again} in a new batch."
            )

    def _answer(self, key: str, model: str, status: int, line: dict) -> Answer:
        """The end of a request: an answer, or the reason why there is none to use."""
        if status != 200:
            return Answer(key, model, "", "refused", 0, 0, 0.0, f"refused ({_said(line)})")
        reply = Reply.model_validate(line["response"]["body"])
        message, why = reply.choices[0].message, reply.choices[0].finish_reason or "stop"
        tokens = (reply.usage.prompt_tokens, reply.usage.completion_tokens)
        filtered = message.refusal or ("the provider filtered its content" if why == "content_filter" else "")
        reason = f"refused ({filtered[:300]})" if filtered else ""
        usd = PRICE_SHARE * cost(model, *tokens)
        return Answer(key, model, message.content or "", why, *tokens, usd, reason)

    def _failed(self, batch: dict, found) -> None:
        """A batch that was refused as a whole, unpaid. One that is too long for the queue is halved."""
        errors = (found.errors and found.errors.data) or []
        self._save(batch, state="failed")
        said = "; ".join(f"{error.code}: {error.message}" for error in errors[:3]) or "no reason was given"
        queue = any(error.code == "token_limit_exceeded" for error in errors)
        if not queue or len(batch["keys"]) == 1:
            fix = "Other batches of the account may fill its queue: wait for them." if queue else ""
            raise TeacherError(f"{found.id} was refused, unpaid: {said[:600]}. {fix}")
        self.size, self.one_by_one = min(self.size, len(batch["keys"]) // 2), True
        self.tries.subtract(batch["keys"])
        print(f"{found.id} is too long for the account's queue ({said[:300]}): from here on batches of at most "
              f"{self.size} requests, one after another")  # fmt: skip
