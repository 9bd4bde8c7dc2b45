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

import pydantic

from helpers.ask import batch_api, teacher
from helpers.ask.answers import Answer, Reply, Request, answered, cost, read_reply, response_format, summary
from helpers.ask.teacher import TeacherError
from helpers.core import files

PRICE_SHARE = 0.5
MAX_REQUESTS, MAX_BYTES = 50_000, 200_000_000  # in one input file
ENDED = ("completed", "failed", "expired", "cancelled")
REFUSED = (400, 413, 422)  # this text will not be taken another time either
TRIES = 3  # batches that a request is sent with, in one call of ask_all


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


def _read(line: dict) -> tuple[int, Reply | None, str]:
    """The HTTP status of a result line, its reply and its error; 0 where it has no complete answer."""
    response = line.get("response") or {}
    status, body = response.get("status_code") or 0, response.get("body") or {}
    error = body.get("error") or line.get("error") or {}
    if status == 200:
        try:
            reply = read_reply(body)
            return (200, reply, "") if reply.tokens else (0, None, "no usage")
        except pydantic.ValidationError:
            status = 0
    return status, None, str(error.get("message", "no answer"))[:300]


class _Run:
    """One call of ask_all. `batches` is the state file: a dict a batch, whose "state" is one of

    asked (may have been created), running, done, failed (nothing is paid).
    """

    def __init__(self, requests, journal: Path, model: str, response_model, max_cost_usd: float, poll: float):
        self.requests = {request.key: request for request in requests}
        self.journal, self.model, self.max_cost_usd, self.poll = journal, model, max_cost_usd, poll
        self.state = journal.with_name(f"{journal.stem.removesuffix('_journal')}_batches.json")
        self.batches: list[dict] = files.read_json(self.state, [])
        self.format = response_format(response_model)
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
        if missing - self.failed.keys():
            raise teacher.budget_reached(self.journal, done, total, spent, self.max_cost_usd)

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
        keys = keys[:fit]
        while keys:
            lines = []
            for key in keys[:MAX_REQUESTS]:
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

    def _collect(self, batch: dict, ended) -> None:
        """Journal the results of an ended batch, then note it as done. Raises TeacherError after that."""
        if ended.status == "failed":
            self._failed(batch, ended)
        model, have = batch["model"], answered(self.journal)
        results = {line.get("custom_id"): _read(line) for line in self.service.results(ended)}
        statuses = {status for status, _, _ in results.values()}
        works = 200 in statuses or any(answer.model == model for answer in have.values())
        if not works and statuses & set(REFUSED):
            self._save(batch, state="failed")
            raise TeacherError(
                f"{model!r} refused all {len(results)} requests of {ended.id}: {next(iter(results.values()))[2]}. "
                "Nothing is paid. Choose another teacher_model, or mode='live', which also works without JSON schemas."
            )
        rows, fatal, absent = [], "", (0, None, f"its batch is {ended.status}")
        for key in [key for key in batch["keys"] if key not in have]:
            status, reply, error = results.get(_custom_id(key), absent)
            if reply:
                usd = PRICE_SHARE * cost(model, *reply.tokens)
                reason = f"refused ({reply.refused[:300]})" if reply.refused else ""
                rows.append(Answer(key, model, reply.text, reply.finish_reason, *reply.tokens, usd, reason))
            elif status in REFUSED:
                rows.append(Answer(key, model, "", "refused", 0, 0, 0.0, f"refused ({error})"))
            else:
                self.problems[key] = f"{status} {error}"
                fatal = fatal or (f"{status} {error}. {teacher.FIXES[status]}" if 400 < status < 405 else "")
        if rows:
            files.append_jsonl(self.journal, *map(asdict, rows))
        self._save(batch, state="done")
        again = len(self.unanswered().keys() & set(batch["keys"]))
        print(f"{ended.id}: {ended.status}, {len(batch['keys']) - again} of {len(batch['keys'])} answered")
        if fatal or ended.status == "cancelled":
            raise TeacherError(
                f"{ended.id}: {fatal or 'it was cancelled'}. {again} of its requests have no answer; "
                f"{self.journal.name} keeps the others. The same call asks those {again} in a new batch."
            )

    def _failed(self, batch: dict, ended) -> None:
        """A batch that was refused as a whole, unpaid."""
        self._save(batch, state="failed")
        errors = "; ".join(
            f"{error.code}: {error.message}" for error in (ended.errors and ended.errors.data) or []
        )
        raise TeacherError(
            f"{ended.id} was refused, unpaid: {errors[:600] or 'no reason was given'}. Where the account's queue is "
            "too short for it, lower MAX_REQUESTS in helpers/ask/batch.py, and run this again when others have ended."
        )
