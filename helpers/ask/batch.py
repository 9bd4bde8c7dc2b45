"""OpenAI's Batch API: the requests of `teacher`, answered within a day and at half the price.

It may be killed, and continued on another day: the same call takes up what is under way, from `qa_batches.json` beside
the journal, and finds a batch that was never noted by its tag, a hash of its requests. A cut off or malformed answer is
kept, since another would take a day; one of which thinking has left nothing is asked for once more.

By platform.openai.com/docs/guides/batch, read in November 2026: 50,000 requests and 200 MB a file, a limit of input
tokens in the queue, 24 hours, after which what is finished is charged, lines in any order, files for 30 days.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from itertools import accumulate, takewhile
from pathlib import Path

from tqdm import tqdm

from helpers.ask import answers, prices
from helpers.ask.answers import Answer, Reply, Request
from helpers.ask.teacher import Run, TeacherError
from helpers.core import files

PRICE_SHARE = 0.5
MAX_REQUESTS = 20_000  # in one input file: of 10 kB each, they have its 200 MB
ENDPOINT = "/v1/chat/completions"
TAG = "requests"  # the name in a batch's metadata under which its tag stands
ENDED = ("completed", "failed", "expired", "cancelled")
KEPT_DAYS = 30
RETRIES = 60  # of a look at a batch under way: eight minutes without a network don't end a wait of hours
LISTED_LATE = (0, 2, 5, 10)  # seconds between looks for a batch that may have been created


def ask_all(requests: list[Request], journal_path: Path, *, model: str, response_model: type,
            max_cost_usd: float, poll_seconds: float = 60.0) -> dict[str, Answer]:  # fmt: skip
    """As `teacher.ask_all`; what fails or expires has a reason until the next call, which asks again."""
    run = _Run(requests, journal_path, model, response_model, max_cost_usd)
    if run.missing():
        run.all(poll_seconds)
    return run.ends()


def _custom_id(key: str) -> str:  # at most 64 characters
    return key if len(key) <= 64 else files.content_id(key)


class _Run(Run):
    """A call of ask_all. `batches` is the state file: asked (perhaps created), running, done, failed (unpaid)."""

    def __init__(self, *job):
        super().__init__(*job, PRICE_SHARE)
        self.state = self.journal.with_name(f"{self.journal.stem.removesuffix('_journal')}_batches.json")
        self.batches: list[dict] = files.read_json(self.state, [])
        self.sent: dict[str, dict] = {}  # by this process; what an earlier one sent is not known

    def all(self, poll_seconds: float) -> None:
        import openai

        web = openai.DefaultHttpxClient(trust_env=not prices.is_own(self.url))
        options = {"timeout": 600, "max_retries": 4, "http_client": web}
        self.client = openai.OpenAI(api_key=self.key, base_url=self.url, **options)
        for batch in self.batches:  # whose creation an earlier process did not live to note
            if batch["state"] == "asked":
                batch_id = self._find(batch["tag"], LISTED_LATE)
                self._save(batch, id=batch_id, state="running" if batch_id else "failed")
        total = len(self.requests)
        with tqdm(total=total, desc=self.model, file=sys.stderr) as bar:
            while True:
                self._send()
                missing = {request.key for request in self.missing()}
                bar.update(total - len(missing) - bar.n)
                waiting = (batch for batch in self.under_way() if missing & set(batch["keys"]))
                if not (batch := next(waiting, None)):
                    break
                self._collect(batch, self._ended(batch, bar, poll_seconds))
        print(f"{total - len(missing)} of {total} requests are answered")
        if missing - self.failed.keys():
            raise self.budget_reached()

    def under_way(self) -> list[dict]:
        return [b for b in self.batches if b["state"] == "running" and {*b["keys"]} - self.have.keys()]

    def _save(self, batch: dict, **changes: object) -> None:
        batch |= changes
        files.write_json(self.state, self.batches)

    def _body(self, key: str) -> dict:
        return self.wants.body(self.requests[key], self.format)

    def _most(self, key: str) -> float:
        return prices.cost(self.price, *answers.most(self._body(key)))

    def _send(self) -> None:
        pending = {key for batch in self.under_way() for key in batch["keys"]} | self.failed.keys()
        keys = [request.key for request in self.missing() if request.key not in pending]
        left = self.max_cost_usd - self.spent - sum(batch["usd_at_most"] for batch in self.under_way())
        costs = accumulate(map(self._most, keys))
        keys = [key for key, usd in zip(keys, costs) if usd <= left]
        for start in range(0, len(keys), MAX_REQUESTS):
            self._start(keys[start : start + MAX_REQUESTS])

    def _start(self, keys: list[str]) -> None:
        """One batch: noted as asked, created, noted as running. A kill between any two loses nothing."""
        self.sent |= {key: self._body(key) for key in keys}
        line = {"method": "POST", "url": ENDPOINT}
        lines = [json.dumps({"custom_id": _custom_id(k)} | line | {"body": self.sent[k]}) for k in keys]
        tag = files.content_id(lines)
        batch_id = self._find(tag)  # also where the work_dir was lost with the machine that it was on
        batch = {"id": None, "state": "asked", "tag": tag, "keys": keys}
        self.batches.append(batch)
        self._save(batch, usd_at_most=sum(map(self._most, keys)))
        try:
            batch_id = batch_id or self._create(tag, lines)
        except TeacherError:
            self._save(batch, state="failed")
            raise
        batch_id = batch_id or self._find(tag, LISTED_LATE)
        if not batch_id:
            raise TeacherError(
                "The answer to the start of a batch was lost, and no such batch is listed. Run this again in some "
                "minutes: it looks once more before it starts another."
            )
        self._save(batch, id=batch_id, state="running")
        print(f"{batch_id}: {len(keys)} requests for at most ${batch['usd_at_most']:.4f}, half the live price. It "
              "may take a day and goes on at OpenAI, also when you interrupt this; the same call takes it up. To stop "
              "it, use platform.openai.com/batches")  # fmt: skip

    def _find(self, tag: str, pauses: tuple[float, ...] = (0,)) -> str | None:
        """The id of a batch of the last 30 days with this tag, one that is not in the state file."""
        known, oldest = {batch["id"] for batch in self.batches}, time.time() - KEPT_DAYS * 86400
        for pause in pauses:
            time.sleep(pause)
            with self._explained("at listing the batches", absent="It has no Batch API: use mode='live'"):
                listed = self.client.batches.list(limit=100)  # the newest first, page by page
                for batch in takewhile(lambda batch: batch.created_at >= oldest, listed):
                    same = (batch.metadata or {}).get(TAG) == tag
                    if same and batch.id not in known and batch.status != "failed":
                        return batch.id
        return None

    def _create(self, tag: str, lines: list[str]) -> str | None:
        """The id of the new batch, or None when the answer was lost: sent again, it might be paid twice."""
        import openai

        with self._explained("at uploading the requests"):
            data = "\n".join([*lines, ""]).encode()
            file = self.client.files.create(file=(f"{tag}.jsonl", data), purpose="batch")
        create = self.client.with_options(max_retries=0).batches.create
        options = {"endpoint": ENDPOINT, "completion_window": "24h", "metadata": {TAG: tag}}
        with self._explained("at starting the batch"):
            try:
                return create(input_file_id=file.id, **options).id
            except (openai.APIConnectionError, openai.InternalServerError):
                return None

    def _ended(self, batch: dict, bar, poll_seconds: float):
        """The batch as the server describes it, as soon as it has ended."""
        patient = self.client.with_options(max_retries=RETRIES)
        while True:
            with self._explained(f"at asking for {batch['id']}", "Is OPENAI_API_KEY of its account?"):
                listed = patient.batches.retrieve(batch["id"])
            if listed.status in ENDED:
                return listed
            done = listed.request_counts.completed if listed.request_counts else 0
            bar.set_postfix_str(f"{listed.id} {listed.status}, {done}/{len(batch['keys'])}")
            time.sleep(poll_seconds)

    def _results(self, ended) -> dict[str, Reply]:
        """What came of each request, by custom_id: the lines of the output and the error file."""
        gone = f'They are kept {KEPT_DAYS} days. To pay for new ones, set its state to "failed" in qa_batches.json'
        replies, content = {}, self.client.with_options(max_retries=RETRIES).files.content
        with self._explained(f"at downloading the results of {ended.id}", absent=gone):
            ids = filter(None, (ended.error_file_id, ended.output_file_id))  # of two lines, a success counts
            whole = "\n".join(content(name).content.decode("utf-8-sig", "replace") for name in ids)
            for text in filter(str.strip, whole.split("\n")):
                with contextlib.suppress(AttributeError, TypeError, ValueError):  # a torn line loses itself
                    line = json.loads(text)
                    response = line.get("response") or {}
                    body = response.get("body") or {"error": line.get("error") or "no answer"}
                    reply = answers.read_reply(int(response.get("status_code") or 500), body)
                    replies[line.get("custom_id")] = reply
            if whole.strip() and not replies:
                json.loads(whole)  # raises: it is a page of a proxy
        return replies

    def _collect(self, batch: dict, ended) -> None:
        """Journal the results of an ended batch, then note it as done. Raises TeacherError after that."""
        if ended.status == "failed":
            self._save(batch, state="failed")
            errors = (ended.errors and ended.errors.data) or []
            why = "; ".join(dict.fromkeys(f"{error.code}: {error.message}" for error in errors))
            raise TeacherError(
                f"{ended.id} was refused, unpaid: {why[:600] or 'no reason was given'}. Where it was too much, lower "
                "MAX_REQUESTS in helpers/ask/batch.py, and run this again when other batches have ended."
            )
        results = self._results(ended)
        self.works |= not all(reply.problem for reply in results.values())
        absent = Reply(problem=f"its batch is {ended.status}", status=0)
        keys = [key for key in batch["keys"] if key in self.requests and key not in self.have]
        rows = [self._row(key, results.get(_custom_id(key), absent)) for key in keys]
        if rows := list(filter(None, rows)):
            files.append_jsonl(self.journal, *rows)
        rest = [key for key in batch["keys"] if key not in self.requests]  # for the call that asks them
        left = batch["usd_at_most"] * len(rest) / len(batch["keys"])
        self._save(batch, **({"keys": rest, "usd_at_most": left} if rest else {"state": "done"}))
        print(f"{ended.id}: {ended.status}, {len(rows)} results; the next call asks for what it lacks")

    def _row(self, key: str, reply: Reply) -> dict | None:
        """A reply as the journal holds it; None where the next call asks again, for the reason in `failed`."""
        sent = self.sent.get(key)
        if not reply.problem:
            flaw = "" if reply.text.strip() else reply.cut_off
            return self.end(key, reply, flaw, reply.tokens or answers.most(sent or self._body(key)))
        taught = not sent and reply.says & {"old name", "system", "schema"}
        sent = sent or self._body(key)
        self.wants.learn(key, reply.says)
        if taught or self._body(key) != sent:
            return self.settle(key, None, str(reply.status), reason=reply.problem)
        return self.refusal(key, reply) or self.fail(key, reply.problem)

    @contextlib.contextmanager
    def _explained(self, doing: str, absent: str = "") -> Iterator[None]:
        """Turn the client's errors into a TeacherError; `absent` is the fix where a path is not there."""
        import openai

        try:
            yield
        except (openai.APIError, json.JSONDecodeError) as error:
            status = error.status_code if isinstance(error, openai.APIStatusError) else 0
            fix = absent if status in (404, 405, 501) else ""
            raise self.error(doing, " ".join(str(error).split()), status, fix) from None
