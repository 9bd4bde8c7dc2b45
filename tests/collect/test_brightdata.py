"""helpers.collect.brightdata against a loopback server: nothing is paid twice, nothing received is lost."""

from __future__ import annotations

import contextlib
import json
import shutil
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from helpers.collect import brightdata
from helpers.core import files
from tests.fakes.brightdata import BUSY, CUT_OFF, HALF, HANG_UP, PROXY, TOO_MANY, FakeBrightData

KEY = "test-key-5f1d0c"
URL = "https://www.trustpilot.com/review/example.com"
OTHER = "https://www.trustpilot.com/review/other.example"


class Time:
    """A clock that only `sleep` moves, and the pauses it was asked for."""

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def clock(self) -> float:
        return self.now


@pytest.fixture
def fake(monkeypatch):
    with FakeBrightData(key=KEY) as server:
        monkeypatch.setenv("BRIGHTDATA_BASE_URL", server.url)
        monkeypatch.setenv("BRIGHTDATA_API_KEY", KEY)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def collect(tmp_path):
    """brightdata.collect with a journal in tmp_path; checks after each call that the key is nowhere."""

    def call(url=URL, max_reviews=10, confirm_spend=True, time=None, **options):
        call.time = time or Time()
        try:
            return list(
                brightdata.collect(
                    url,
                    max_reviews,
                    tmp_path / "snapshot.json",
                    confirm_spend=confirm_spend,
                    sleep=call.time.sleep,
                    clock=call.time.clock,
                    **options,
                )
            )
        except (RuntimeError, ValueError, TimeoutError) as error:
            assert KEY not in "".join(traceback.format_exception(error))
            raise
        finally:
            written = [path for path in tmp_path.rglob("*") if path.is_file()]
            assert not [path for path in written if KEY in path.read_text(encoding="utf-8")]

    return call


@pytest.fixture
def kept(tmp_path):
    """All rows on the disk, those of every job."""
    return lambda: [row for path in sorted(tmp_path.glob("*_rows/*")) for row in files.read_jsonl(path)]


@pytest.fixture
def journal(tmp_path):
    return lambda: json.loads((tmp_path / "snapshot.json").read_text(encoding="utf-8"))


def test_an_undisturbed_run(fake, collect, journal, kept, capsys):
    rows = collect()
    assert [row["review_id"] for row in rows] == [f"example.com-{n}" for n in range(10)]
    assert rows == fake.rows("sd_fake0000")  # as received, the null and the 👍 included
    trigger = fake.requests[0]
    asked = ("dataset_id=gd_lm5zmhwd2sni130p", "limit_per_input=10", "format=json", "include_errors=true")
    assert all(part in trigger for part in asked)
    assert journal()["state"] == "downloaded" and journal()["snapshot_id"] == "sd_fake0000"
    assert kept() == rows and journal()["rows"] == 10
    said = capsys.readouterr()
    assert "starting" in said.err and "10/10 rows" in said.err and "starting" not in said.out


def test_a_rerun_asks_pays_and_downloads_nothing(fake, collect, monkeypatch):
    rows = collect()
    seen = len(fake.requests)
    monkeypatch.delenv("BRIGHTDATA_API_KEY")  # not even the key is needed
    assert collect(confirm_spend=False) == rows
    assert len(fake.requests) == seen


def test_without_confirmation_there_is_no_request(fake, collect, monkeypatch, tmp_path):
    monkeypatch.delenv("BRIGHTDATA_API_KEY")
    with pytest.raises(brightdata.SpendNotConfirmed) as caught:
        collect(max_reviews=2000, confirm_spend=False)
    for part in (URL, "2000 reviews", "$3.00", "$1.50 per 1,000", "November 2026", "confirm_spend=True"):
        assert part in str(caught.value)
    assert fake.requests == [] and list(tmp_path.iterdir()) == []


def test_the_journal_stands_before_the_trigger(fake, collect, journal, monkeypatch):
    """A runtime that dies during the trigger must leave the question behind, or it is paid again."""

    def die(*_args, **_options):
        assert journal()["state"] == "asked"
        assert journal()["question"]["url"] == URL
        raise KeyboardInterrupt

    monkeypatch.setattr("helpers.collect.brightdata_api.requests.request", die)
    with pytest.raises(KeyboardInterrupt):
        collect()
    assert journal()["state"] == "asked"


@pytest.mark.parametrize("status", [202, 409])
def test_a_download_that_is_still_building_after_ready_is_waited_for(fake, collect, status):
    fake.building_downloads, fake.building_status = 3, status
    assert len(collect()) == 10
    assert collect.time.pauses.count(30) == 3  # "try again in 30s"


def test_a_lost_trigger_answer_is_looked_up_at_once(fake, collect):
    fake.lose_trigger_answers, fake.hidden_listings = 1, 1
    assert len(collect()) == 10
    assert fake.triggers == 1
    assert collect.time.pauses[0] == 10  # the job was not listed at first


def test_a_lost_trigger_answer_is_looked_up_by_the_next_run(fake, collect):
    fake.lose_trigger_answers, fake.hidden_listings = 1, 3
    with pytest.raises(brightdata.CollectionFailed, match="was lost"):
        collect()
    assert len(collect(confirm_spend=False)) == 10
    assert fake.triggers == 1


def test_a_lost_trigger_that_never_arrived_needs_confirmation_again(fake, collect):
    fake.lose_trigger_answers = 1
    fake.hidden_listings = 6
    with pytest.raises(brightdata.CollectionFailed, match="was lost"):
        collect()
    fake.jobs.clear()
    with pytest.raises(brightdata.SpendNotConfirmed):
        collect(confirm_spend=False)
    assert fake.triggers == 1
    assert len(collect()) == 10
    assert fake.triggers == 2


def test_no_other_job_is_taken_for_the_lost_one(fake, collect, journal):
    """Not an earlier question's, not an old one, not another company's, not one that failed."""
    collect(max_reviews=5)
    fake.start([{"url": URL}], {}, created=datetime.now(UTC) - timedelta(hours=2))
    fake.start([{"url": OTHER}], {})
    fake.start([{"url": URL, "num_of_reviews_limit": 11}], {})  # another work_dir's, with another cap
    fake.jobs[fake.start([{"url": URL}], {})]["listed"]["status"] = "canceled"
    fake.trigger_refusal = (502, "")
    with pytest.raises(brightdata.CollectionFailed, match="no such job is listed"):
        collect()
    fake.start([{"url": URL}], {"limit_per_input": "10"})
    assert len(collect()) == 10
    assert journal()["snapshot_id"] == "sd_fake0005"


@pytest.mark.parametrize("answer", [(500, "Internal server error"), (200, "<html>a proxy's page</html>")])
def test_an_unclear_trigger_answer_is_never_sent_again(fake, collect, answer):
    fake.trigger_refusal = answer
    with pytest.raises(brightdata.CollectionFailed, match="no such job is listed"):
        collect()
    assert fake.triggers == 1


def test_a_redirected_trigger_is_not_followed(fake, collect):
    """requests would send the POST again, to wherever it is told."""
    there = f"{fake.url}/datasets/v3/trigger?dataset_id={brightdata.DATASET_ID}"
    fake.trigger_troubles = [(307, "", {"Location": there})]
    with pytest.raises(brightdata.CollectionFailed, match="no such job is listed"):
        collect()
    assert fake.triggers == 1 and fake.jobs == {}


def test_a_refused_trigger_shows_the_text_and_can_be_asked_again(fake, collect):
    fake.trigger_refusal = (400, '{"error":"Invalid input provided","code":"validation_error"}')
    with pytest.raises(brightdata.CollectionFailed, match="validation_error.*nothing is paid"):
        collect()
    fake.trigger_refusal = None
    seen = len(fake.requests)
    with pytest.raises(brightdata.SpendNotConfirmed):
        collect(confirm_spend=False)
    assert len(fake.requests) == seen  # the refusal was clear: there is no lost job to look for
    assert len(collect()) == 10


def test_a_time_out_is_resumed_without_a_second_trigger(fake, collect):
    fake.polls_until_ready = 50
    with pytest.raises(brightdata.StillCollecting, match="again to resume"):
        collect(poll_timeout_minutes=5)
    assert 240 < collect.time.now <= 300
    fake.polls_until_ready = 0
    assert len(collect(confirm_spend=False)) == 10
    assert fake.triggers == 1


def test_server_errors_and_429_are_waited_out(fake, collect):
    fake.troubles = [
        (500, "Internal server error"),
        (429, "Too many requests", {"Retry-After": "17"}),
        (429, "Too many requests"),
        (503, "", {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=90))}),
    ]
    assert len(collect()) == 10
    first, second, third, fourth = collect.time.pauses[:4]
    assert (first, second, third) == (2, 17, 8) and 85 < fourth <= 90


def test_a_service_that_stays_away_is_not_asked_for_ever(fake, collect):
    fake.troubles = [(503, f"slow down, {KEY}")] * 6
    with pytest.raises(brightdata.CollectionFailed, match="failed 6 times.*503 slow down"):
        collect()
    assert collect.time.pauses == [2, 4, 8, 16, 32]
    assert len(collect(confirm_spend=False)) == 10 and fake.triggers == 1


@pytest.mark.parametrize("body", ["empty", "Snapshot is empty"])
def test_a_snapshot_without_rows(fake, collect, body):
    fake.body = body
    assert collect() == [] == collect(confirm_spend=False)


def test_no_rows_where_many_were_asked_for(fake, collect):
    fake.reviews = 0
    assert collect(max_reviews=5000) == [] == collect(max_reviews=5000, confirm_spend=False)


def test_one_object_a_line(fake, collect):
    """Reviews hold U+2028, which str.splitlines() takes for the end of a line."""
    fake.body = "lines"
    assert collect() == fake.rows("sd_fake0000")


@pytest.mark.parametrize("trouble", [HALF, CUT_OFF, HANG_UP, PROXY, (200, "")])
def test_half_a_body_is_not_taken_for_the_whole(fake, collect, kept, trouble):
    fake.download_troubles = [trouble]
    assert collect() == fake.rows("sd_fake0000") == kept()
    fake.download_troubles = [HALF] * 6
    with pytest.raises(brightdata.CollectionFailed, match="failed 6 times.*not JSON"):
        collect(OTHER)
    assert len(collect(OTHER, confirm_spend=False)) == 10 and fake.triggers == 2


def test_missing_rows_are_asked_for_again(fake, collect, kept, journal):
    fake.short_downloads = 1
    assert len(collect(max_reviews=50)) == 50
    assert len(kept()) == journal()["rows"] == 50  # 45 and the 5 that were missing, none of them twice


def test_rows_that_never_come_are_said(fake, collect, kept, capsys):
    fake.short_downloads = 1000
    assert len(collect(max_reviews=50)) == 45 == len(kept())
    assert "counted 50 records and delivered 45" in capsys.readouterr().out
    assert len(collect(max_reviews=50, confirm_spend=False)) == 45


def test_a_large_result_comes_in_parts(fake, collect, kept, monkeypatch):
    monkeypatch.setattr(brightdata, "PART_ROWS", 1000)
    fake.reviews = 2500
    fake.download_troubles = [(500, ""), CUT_OFF]
    rows = collect(max_reviews=5000)
    assert rows == fake.rows("sd_fake0000") == kept() and len(rows) == 2500
    asked = [request for request in fake.requests if "part=" in request]
    assert "batch_size=1000&part=1" in asked[0] and "part=3" in asked[-1]


def test_parts_that_came_are_not_asked_for_again(fake, collect, tmp_path, monkeypatch):
    monkeypatch.setattr(brightdata, "PART_ROWS", 1000)
    fake.reviews = 3000
    collect(max_reviews=3000)
    (tmp_path / "snapshot_rows" / "sd_fake0000.0-000002.jsonl").unlink()
    (tmp_path / "snapshot.json").write_text(
        (tmp_path / "snapshot.json").read_text().replace('"downloaded"', '"ready"')
    )
    fake.requests.clear()
    assert len(collect(max_reviews=3000, confirm_spend=False)) == 3000
    assert [request[-6:] for request in fake.requests if "snapshot/" in request] == ["e=1000", "part=2"]
    assert not [request for request in fake.requests if "progress" in request]  # known to be ready


def test_a_trigger_that_meets_too_many_jobs_is_sent_again(fake, collect, journal):
    """Such a 429 starts nothing, so it is the one answer after which a trigger may be repeated."""
    fake.trigger_troubles = [(429, BUSY), (429, BUSY, {"Retry-After": "40"})]
    assert len(collect()) == 10
    assert collect.time.pauses[:2] == [2, 40] and len(fake.jobs) == 1
    fake.trigger_troubles = [(429, BUSY)] * 9
    with pytest.raises(brightdata.CollectionFailed, match="too many running jobs.*nothing is paid"):
        collect(OTHER)
    assert journal()["state"] == "failed" and len(fake.trigger_troubles) == 3 and len(fake.jobs) == 1


def test_the_cap_goes_without_its_input_field_once_that_is_unknown(fake, collect):
    assert len(collect()) == 10 and fake.jobs["sd_fake0000"]["inputs"][0]["num_of_reviews_limit"] == 10
    fake.fields = ("url",)
    assert len(collect(OTHER)) == 10 and fake.jobs["sd_fake0001"]["inputs"] == [{"url": OTHER}]
    fake.fields = ()
    with pytest.raises(brightdata.CollectionFailed, match="validation_error"):
        collect(max_reviews=3)


@pytest.mark.parametrize("retry_after", [None, "1", "7"])
def test_never_more_than_24_answers_of_429_in_5_minutes(fake, collect, retry_after):
    """25 get the address blocked. Ten minutes of nothing else, met by runs that are started again and again."""
    time = Time()
    fake.clock = time.clock
    headers = {"Retry-After": retry_after} if retry_after else {}
    collect(time=time)
    collected = fake.triggers
    for always in ((429, TOO_MANY, headers), None):
        fake.always = always
        ends = time.now + 600
        while time.now < ends:
            time.sleep(1)
            with contextlib.suppress(brightdata.CollectionFailed, brightdata.StillCollecting):
                collect(OTHER, time=time, poll_timeout_minutes=2 if always else 60)
                break
    times = fake.refused_at
    assert max(sum(start <= t <= start + 300 for t in times) for start in times) <= 24
    assert retry_after != "1" or len(times) >= 24  # the limit was met, not only kept by chance
    assert len(collect(OTHER, time=time)) == 10 and len(fake.jobs) == collected + 1


def test_429_is_waited_out_while_the_job_runs(fake, collect):
    time = Time()
    fake.clock = time.clock
    fake.troubles = [(429, TOO_MANY, {"Retry-After": "1"})] * 40
    assert len(collect(time=time)) == 10 and fake.triggers == 1
    times = fake.refused_at
    assert len(times) == 40 and times[24] - times[0] > 300


@pytest.mark.parametrize(
    "answer, canceled", [("y", True), ("n", False), (EOFError(), False), (OSError(), False)]
)
def test_ctrl_c_asks_whether_to_cancel(fake, collect, journal, monkeypatch, capsys, answer, canceled):
    def interrupted(_):
        raise KeyboardInterrupt

    def typed(question):
        assert "Cancel the paid job" in question
        if isinstance(answer, str):
            return answer
        raise answer

    fake.polls_until_ready = 1000
    time = Time()
    time.sleep = interrupted
    monkeypatch.setattr("builtins.input", typed)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    with pytest.raises(KeyboardInterrupt):
        collect(time=time)
    assert fake.jobs["sd_fake0000"]["listed"]["status"] == ("canceled" if canceled else "running")
    assert journal()["state"] == ("canceled" if canceled else "collecting")
    said = capsys.readouterr().out
    assert ("is canceled" if canceled else "The job is kept") in said and KEY not in said
    if not canceled:
        fake.polls_until_ready = 0
        assert len(collect(confirm_spend=False)) == 10 and fake.triggers == 1


def test_the_accounts_jobs_are_listed_in_pages(fake, collect, monkeypatch, tmp_path):
    monkeypatch.setattr("helpers.collect.brightdata_api.PAGE", 3)
    names = [fake.start([{"url": OTHER}], {}) for _ in range(7)]
    service = brightdata.Service(tmp_path / "snapshot.json", 1, Time().sleep, Time().clock)
    assert [job["id"] for job in service.snapshots(brightdata.DATASET_ID)] == names
    assert len(fake.requests) == 3
    fake.lose_trigger_answers = 1
    assert len(collect()) == 10 and fake.triggers == 1  # found on the third page


@pytest.mark.parametrize("status", ["failed", "canceled", "cancelled", "error", "FAILED"])
def test_a_job_that_ended_shows_the_services_message(fake, collect, journal, status):
    fake.end = {"status": status, "error_message": f"Account is suspended {KEY}"}
    with pytest.raises(brightdata.CollectionFailed, match="Account is suspended"):
        collect()
    assert journal()["state"] == "failed"
    with pytest.raises(brightdata.SpendNotConfirmed):
        collect(confirm_spend=False)


def test_a_wrong_key_names_the_variable(fake, collect, monkeypatch):
    fake.key = "another"
    with pytest.raises(brightdata.CollectionFailed, match="Invalid credentials.*BRIGHTDATA_API_KEY"):
        collect()
    assert fake.jobs == {}
    monkeypatch.setenv("BRIGHTDATA_API_KEY", f"two\n{KEY}")
    with pytest.raises(ValueError, match="BRIGHTDATA_API_KEY"):
        collect()


def test_a_snapshot_that_is_gone_is_not_replaced_behind_the_users_back(fake, collect):
    fake.polls_until_ready = 1000
    with pytest.raises(brightdata.StillCollecting):
        collect(poll_timeout_minutes=1)
    fake.jobs.clear()
    with pytest.raises(brightdata.CollectionFailed, match="Snapshot does not exist.*delete .*snapshot.json"):
        collect()
    assert fake.triggers == 1


def test_another_question_starts_another_job_and_the_first_comes_back_free(fake, collect):
    rows = collect()
    assert collect(OTHER)[0]["review_id"] == "other.example-0"
    assert fake.triggers == 2
    seen = len(fake.requests)
    assert collect(confirm_spend=False) == rows
    assert collect(OTHER, confirm_spend=False)[0]["review_id"] == "other.example-0"
    assert len(fake.requests) == seen


def test_rows_that_were_deleted_are_downloaded_again_for_free(fake, collect, tmp_path):
    rows = collect()
    shutil.rmtree(tmp_path / "snapshot_rows")
    assert collect(confirm_spend=False) == rows and fake.triggers == 1


def test_more_rows_than_asked_are_cut_but_kept_in_the_file(fake, collect, kept):
    fake.ignore_limit_by = 30
    assert len(collect()) == 10
    assert len(kept()) == 40


def test_duplicates_take_no_place_and_error_rows_stay():
    error = {"input": {"url": URL}, "error": "No data", "error_code": "dead_page"}
    a, b, unnamed = {"review_id": "a", "error": None}, {"review_id": "b"}, {"review_id": None}
    assert list(brightdata._cut([a, error, a, unnamed, unnamed, b], 3)) == [a, error, unnamed, unnamed]
    assert list(brightdata._cut([a, a, b, error], 2)) == [a, b, error]


def test_a_company_that_does_not_exist_is_an_error_row(fake, collect):
    (row,) = collect("https://www.trustpilot.com/review/no-such-shop.example")
    assert brightdata.is_error_row(row) and row["error_code"] == "dead_page"


def test_cancel_stops_the_job_and_ends_the_journal(fake, collect, journal, tmp_path):
    fake.polls_until_ready = 1000
    with pytest.raises(brightdata.StillCollecting):
        collect(poll_timeout_minutes=1)
    brightdata.cancel(tmp_path / "snapshot.json")
    assert fake.jobs["sd_fake0000"]["listed"]["status"] == "canceled"
    assert journal()["state"] == "canceled"
    with pytest.raises(ValueError, match="canceled"):
        brightdata.cancel(tmp_path / "snapshot.json")


@pytest.mark.parametrize(
    "url",
    [
        "https://www.trustpilot.com/review/Example.com/",
        " http://trustpilot.com/review/example.com?languages=all&page=2",
        "fr-be.trustpilot.com/review/example.com#reviews",
    ],
)
def test_company_urls_are_normalised(url):
    assert brightdata.check_company_url(url) == URL


@pytest.mark.parametrize(
    "url",
    ["", "example.com", "https://www.trustpilot.com.evil.example/review/a.com", f"{URL}/x", f"x {URL}"],
)
def test_other_urls_are_refused_before_anything_is_asked(fake, collect, url):
    with pytest.raises(ValueError, match="company_url = .*trustpilot.com/review/example.com") as caught:
        collect(url)
    assert repr(url) in str(caught.value) and fake.requests == []


@pytest.mark.parametrize("max_reviews", [0, -1, 1.5, "10"])
def test_max_reviews_must_be_a_count(fake, collect, max_reviews):
    with pytest.raises(ValueError, match="max_reviews = "):
        collect(max_reviews=max_reviews)
    assert fake.requests == []


def test_the_expected_cost():
    assert brightdata.expected_cost(1000) == 1.50 and brightdata.expected_cost(200) == pytest.approx(0.30)
