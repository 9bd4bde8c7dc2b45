"""helpers.collect.brightdata against a loopback server: nothing is paid twice, nothing received is lost."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import time
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from urllib3.connection import HTTPConnection

from helpers.collect import brightdata
from helpers.collect.records import is_error_row
from helpers.core import files, runtime
from tests.fakes.brightdata import BUSY, CUT_OFF, HALF, HANG_UP, PROXY, TOO_MANY, FakeBrightData

KEY = "test-key-5f1d0c"
URL = "https://www.trustpilot.com/review/example.com"
OTHER = "https://www.trustpilot.com/review/other.example"


class Time:
    """A clock that only `sleep` moves, and the pauses it was asked for."""

    time = staticmethod(time.time)  # urllib3 takes a date in Retry-After from it

    def __init__(self) -> None:
        self.now, self.pauses = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Time()
    monkeypatch.setattr(brightdata, "time", clock)
    monkeypatch.setattr("urllib3.util.retry.time", clock)
    return clock


@pytest.fixture
def fake(monkeypatch):
    with FakeBrightData(key=KEY) as server:
        monkeypatch.setenv("BRIGHTDATA_BASE_URL", server.url)
        monkeypatch.setenv("BRIGHTDATA_API_KEY", KEY)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield server


@pytest.fixture
def collect(tmp_path, clock):
    """brightdata.collect with a journal in tmp_path; checks after each call that the key is nowhere."""

    def call(url=URL, max_reviews=10, confirm_spend=True, **options):
        journal = tmp_path / "snapshot.json"
        try:
            return list(brightdata.collect(url, max_reviews, journal, confirm_spend=confirm_spend, **options))
        except (RuntimeError, ValueError, TimeoutError, LookupError) as error:
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
    assert fake.bodies == [{"input": [{"url": URL, "num_of_reviews_limit": 10}], "limit_per_input": 10}]
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

    monkeypatch.setattr("helpers.collect.brightdata.requests.post", die)
    with pytest.raises(KeyboardInterrupt):
        collect()
    assert journal()["state"] == "asked"


@pytest.mark.parametrize("status", [202, 409])
def test_a_download_that_is_still_building_after_ready_is_waited_for(fake, collect, clock, status):
    fake.building_downloads, fake.building_status = 3, status
    fake.download_troubles = [
        (status, {"status": "building", "message": "wait"}),
        (200, {"status": "building", "message": "Snapshot is not ready yet, try again in 19s"}),
        (200, {"status": "building"}),
    ]
    assert len(collect()) == 10
    assert clock.pauses[-6:] == [10] * 6


@pytest.mark.parametrize("most", [10, 2500])
def test_an_error_in_the_place_of_the_rows_is_shown_and_not_kept_as_one(fake, collect, kept, most):
    fake.reviews, fake.download_troubles = 3000, [(200, {"error": f"Internal error {KEY}"})]
    with pytest.raises(brightdata.CollectionFailed, match="200 .*Internal error"):
        collect(max_reviews=most)
    assert not kept()
    assert len(collect(max_reviews=most, confirm_spend=False)) == most and fake.triggers == 1


def test_a_report_may_have_a_message(fake, collect):
    """Taken for a result that is not ready, it was read again until the time was over."""
    fake.end = {"status": "failed", "message": "Account is suspended"}
    with pytest.raises(brightdata.CollectionFailed, match="ended as failed"):
        collect()


def test_a_lost_trigger_answer_is_looked_up_at_once(fake, collect, clock):
    fake.lose_trigger_answers, fake.hidden_listings = 1, 1
    assert len(collect()) == 10
    assert fake.triggers == 1
    assert clock.pauses[:2] == [0, 15]  # the job was not listed at first


def test_a_lost_trigger_answer_is_looked_up_by_the_next_run(fake, collect):
    fake.lose_trigger_answers, fake.hidden_listings = 1, 2
    with pytest.raises(brightdata.CollectionFailed, match="was lost .ConnectionError.*control panel"):
        collect()
    assert len(collect(confirm_spend=False)) == 10
    assert fake.triggers == 1


def test_a_lost_trigger_is_only_asked_again_once_somebody_has_looked(fake, collect, tmp_path):
    """However often it is run: the job may be there and paid, though it is not listed."""
    fake.lose_trigger_answers, fake.hidden_listings = 1, 6
    for _ in range(3):
        with pytest.raises(brightdata.CollectionFailed, match="If it is not there, delete that file"):
            collect()
    assert fake.triggers == 1
    (tmp_path / "snapshot.json").unlink()
    with pytest.raises(brightdata.SpendNotConfirmed):
        collect(confirm_spend=False)
    fake.jobs.clear()
    assert len(collect()) == 10 and fake.triggers == 2


def test_the_id_of_a_lost_job_can_be_put_into_the_journal(fake, collect, journal, tmp_path):
    fake.lose_trigger_answers, fake.hidden_listings = 1, 2
    with pytest.raises(brightdata.CollectionFailed, match='"state": "collecting", "snapshot_id": "the id"'):
        collect()
    fake.hidden_listings = 1000
    given = journal() | {"state": "collecting", "snapshot_id": "sd_fake0000"}
    (tmp_path / "snapshot.json").write_text(json.dumps(given))
    assert len(collect(confirm_spend=False)) == 10 and fake.triggers == 1


def test_no_other_job_is_taken_for_the_lost_one(fake, collect, tmp_path):
    """Not an earlier question's, not an old one, not another company's, not one that failed."""
    collect(max_reviews=5)
    fake.start([{"url": URL}], {}, created=datetime.now(UTC) - timedelta(hours=2))
    fake.start([{"url": OTHER}], {})
    fake.start([{"url": URL, "num_of_reviews_limit": 11}], {})  # another work_dir's, with another cap
    fake.jobs[fake.start([{"url": URL}], {})]["listed"]["status"] = "canceled"
    fake.trigger_refusal = (502, "")
    with pytest.raises(brightdata.CollectionFailed, match="no such job is listed"):
        collect()
    wanted = fake.start([{"url": URL, "num_of_reviews_limit": "10"}], {"limit_per_input": "10"})
    assert len(collect()) == 10 and fake.triggers == 2
    assert wanted in [json.loads(path.read_text())["snapshot_id"] for path in tmp_path.glob("*.json")]


@pytest.mark.parametrize("answer", [(500, "Internal server error"), PROXY, (503, ""), (408, ""), HANG_UP])
def test_an_unclear_trigger_answer_is_never_sent_again(fake, collect, answer):
    fake.trigger_refusal = answer
    with pytest.raises(brightdata.CollectionFailed, match="no such job is listed"):
        collect()
    assert fake.triggers == 1


def test_without_a_network_nothing_is_started_and_nothing_has_to_be_looked_for(collect, fake, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    for base in (nobody, "http://no-such-host.invalid"):
        monkeypatch.setenv("BRIGHTDATA_BASE_URL", base)
        with pytest.raises(brightdata.CollectionFailed, match=f"{base}.*nothing is paid"):
            collect()
    monkeypatch.setenv("BRIGHTDATA_BASE_URL", fake.url)
    assert len(collect()) == 10 and fake.triggers == 1


def test_a_tls_error_behind_the_request_does_not_send_it_again(fake, collect, monkeypatch):
    """urllib3 would repeat a POST then, whichever methods it is allowed to repeat."""
    answer = HTTPConnection.getresponse

    def unreadable(connection):
        post = connection._response_options.request_method == "POST"
        response = answer(connection)
        if post:
            raise ssl.SSLError("decryption failed or bad record mac")
        return response

    monkeypatch.setattr(HTTPConnection, "getresponse", unreadable)
    assert len(collect()) == 10 and fake.triggers == 1


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


def test_a_time_out_is_resumed_without_a_second_trigger(fake, collect, clock):
    fake.polls_until_ready = 50
    with pytest.raises(brightdata.StillCollecting, match="again to resume"):
        collect(poll_timeout_minutes=5)
    assert 240 < clock.now <= 300
    fake.polls_until_ready = 0
    assert len(collect(confirm_spend=False)) == 10
    assert fake.triggers == 1


def test_server_errors_and_429_are_waited_out(fake, collect, clock):
    fake.troubles = [
        (500, "Internal server error"),
        (429, TOO_MANY, {"Retry-After": "17"}),
        (429, TOO_MANY),
        (503, "", {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=90))}),
        HANG_UP,
        (502, ""),
    ]
    assert len(collect()) == 10 and fake.triggers == 1
    first, second, third, *rest = clock.pauses[1:6]
    assert (first, second) == (17, 4) and 85 < third <= 90 and rest == [16, 32]


def test_a_service_that_stays_away_is_not_asked_for_ever(fake, collect, clock):
    fake.troubles = [(503, f"slow down, {KEY}")] * 7
    with pytest.raises(brightdata.CollectionFailed, match="503 slow down.*Nothing is lost"):
        collect()
    assert clock.pauses[1:] == [2, 4, 8, 16, 32]
    fake.troubles = [(429, TOO_MANY)] * 7
    with pytest.raises(brightdata.CollectionFailed, match="429 Too many requests.*wait five minutes"):
        collect()
    fake.troubles = [HANG_UP] * 21
    with pytest.raises(
        brightdata.CollectionFailed, match="failed, at last with ConnectionError.*Nothing is lost"
    ):
        collect()
    assert not fake.troubles
    assert len(collect(confirm_spend=False)) == 10 and fake.triggers == 1


@pytest.mark.parametrize("body", ["array", "empty", "Snapshot is empty"])
def test_a_snapshot_without_rows(fake, collect, capsys, body):
    fake.body, fake.reviews = body, 0
    assert collect() == [] == collect(confirm_spend=False)
    assert "found no reviews" in capsys.readouterr().out


@pytest.mark.parametrize("body", ["array", "empty", "Snapshot is empty"])
def test_no_rows_at_all_where_some_were_counted_are_not_taken_for_the_result(fake, collect, journal, body):
    nothing = {"array": (200, []), "empty": (200, ""), "Snapshot is empty": (400, body)}[body]
    fake.download_troubles = [nothing] * 3
    with pytest.raises(
        brightdata.CollectionFailed, match="0 rows, where Bright Data counted 10.*Nothing is lost"
    ):
        collect()
    assert journal()["state"] == "ready"
    fake.download_troubles = [nothing] * 2
    assert len(collect(confirm_spend=False)) == 10 and fake.triggers == 1


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
    fake.download_troubles = [HALF] * 3
    with pytest.raises(brightdata.CollectionFailed, match="failed, at last with JSONDecodeError"):
        collect(OTHER)
    assert len(collect(OTHER, confirm_spend=False)) == 10 and fake.triggers == 2


def test_rows_that_never_come_are_said(fake, collect, kept, capsys, tmp_path):
    fake.short_downloads = 1000
    assert len(collect(max_reviews=50)) == 45 == len(kept())
    assert "counted 50 records and delivered 45" in capsys.readouterr().out
    assert len(collect(max_reviews=50, confirm_spend=False)) == 45
    shutil.rmtree(tmp_path / "snapshot_rows")  # as the message says
    fake.short_downloads = 0
    assert len(collect(max_reviews=50, confirm_spend=False)) == 50 and fake.triggers == 1


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
    (tmp_path / "snapshot_rows" / "sd_fake0000.000002.jsonl").unlink()
    (tmp_path / "snapshot.json").write_text(
        (tmp_path / "snapshot.json").read_text().replace('"downloaded"', '"ready"')
    )
    fake.requests.clear()
    assert len(collect(max_reviews=3000, confirm_spend=False)) == 3000
    assert [request[-6:] for request in fake.requests if "snapshot/" in request] == ["e=1000", "part=2"]
    assert not [request for request in fake.requests if "progress" in request]  # known to be ready


@pytest.mark.parametrize(
    "answer, said",
    [
        ((429, BUSY), "too many running jobs.*nothing is paid; wait five minutes"),
        ((429, TOO_MANY, {"Retry-After": "1"}), "429.*nothing is paid"),
        ((404, "dataset does not exist"), "dataset does not exist.*nothing is paid"),
    ],
)
def test_a_trigger_is_not_repeated_even_where_that_would_be_free(fake, collect, journal, answer, said):
    fake.trigger_troubles = [answer]
    with pytest.raises(brightdata.CollectionFailed, match=said):
        collect()
    assert fake.triggers == 1 and journal()["state"] == "failed"
    assert len(collect()) == 10 and fake.triggers == 2 and len(fake.jobs) == 1


def test_an_input_field_that_is_no_longer_known_is_named(fake, collect):
    fake.fields = ("url",)
    with pytest.raises(brightdata.CollectionFailed, match="num_of_reviews_limit field.*nothing is paid"):
        collect()


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
    with pytest.raises(runtime.MissingSecret, match="BRIGHTDATA_API_KEY holds"):
        collect()


def test_a_netrc_does_not_take_the_keys_place(fake, collect, monkeypatch, tmp_path):
    """requests puts its login over an Authorization header: the key never arrived, and that password did."""
    (tmp_path / "netrc").write_text("default login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert len(collect()) == 10


def test_a_snapshot_that_is_gone_is_not_replaced_behind_the_users_back(fake, collect):
    fake.polls_until_ready = 1000
    with pytest.raises(brightdata.StillCollecting):
        collect(poll_timeout_minutes=1)
    fake.jobs.clear()
    with pytest.raises(brightdata.CollectionFailed, match="Snapshot does not exist.*delete .*snapshot.json"):
        collect()
    assert fake.triggers == 1


def test_another_question_starts_another_job_and_the_first_comes_back_free(fake, collect, tmp_path):
    rows = collect()
    assert collect(OTHER)[0]["review_id"] == "other.example-0"
    assert fake.triggers == 2
    seen = len(fake.requests)
    assert collect(confirm_spend=False) == rows
    assert collect(OTHER, confirm_spend=False)[0]["review_id"] == "other.example-0"
    (tmp_path / "snapshot.json").unlink()
    assert collect(OTHER, confirm_spend=False)[0]["review_id"] == "other.example-0"
    assert len(fake.requests) == seen


def test_fewer_reviews_than_were_paid_for_are_free_and_more_are_asked_for(fake, collect, tmp_path):
    """With confirm_spend still True, a smaller max_reviews paid for the same reviews again."""
    rows = collect()
    assert collect(max_reviews=4) == rows[:4] and fake.triggers == 1
    assert len(collect(max_reviews=11)) == 11 and fake.triggers == 2
    assert collect(confirm_spend=False) == rows and collect(OTHER) != rows and fake.triggers == 3
    fake.end = {"status": "failed"}
    with pytest.raises(brightdata.CollectionFailed):
        collect(max_reviews=30)
    fake.end = None
    assert len(collect(max_reviews=20)) == 20 and fake.triggers == 5, "a job that failed holds nothing"


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
    assert is_error_row(row) and row["error_code"] == "dead_page"


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
