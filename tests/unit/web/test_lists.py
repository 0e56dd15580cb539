"""The queue and the gallery: what is listed, and what their buttons do."""

from __future__ import annotations

import pytest

pytest.importorskip("gradio")

from infinite_talk.frontends.web.cards import Cards, acts_of
from infinite_talk.frontends.web.gallery import finished
from infinite_talk.frontends.web.waiting import DEEDS, chosen, perform, queue_html, summary_html
from infinite_talk.jobs import State

BAD = '"><script>alert(1)</script>'


@pytest.fixture
def cards(maker):
    return Cards(maker.texts, "en", "/v1/videos")


def press(maker, act, job):
    return perform(maker, {"act": act, "job": job.id}, "en")


def line(maker):
    return [job.order.title for job in maker.desk.store.queue()]


def test_the_list_is_in_the_order_in_which_jobs_run(maker, job, cards):
    for title, state in (
        ("broken", State.FAILED), ("second", State.QUEUED), ("third", State.QUEUED), ("held", State.PAUSED),
        ("done", State.COMPLETED), ("first", State.RUNNING),
    ):  # fmt: skip
        job(state, title=title)
    html = queue_html(maker.desk, cards)
    places = [html.index(f"<h3>{title}") for title in ("first", "second", "third", "held", "broken")]
    assert places == sorted(places) and "<h3>done" not in html
    assert "1 being made, 2 waiting, 1 paused" in summary_html(maker.desk, cards)


def test_a_job_that_changes_its_state_meanwhile_is_shown_once(maker, job, cards, monkeypatch):
    moving = job(title="moving")
    waiting = maker.desk.store.queue()
    maker.desk.pause(moving.id)
    monkeypatch.setattr(maker.desk.store, "queue", lambda: waiting)  # was asked before the pause
    html = queue_html(maker.desk, cards)
    assert html.count("<h3>moving") == 1 and "it-state-paused" in html


def test_an_empty_queue_says_so(maker, cards):
    assert "Nothing is waiting" in queue_html(maker.desk, cards)


def test_moving_up_and_down(maker, job):
    one, two, three = (job(title=title) for title in ("one", "two", "three"))
    press(maker, "up", three)
    assert line(maker) == ["one", "three", "two"]
    press(maker, "down", one)
    assert line(maker) == ["three", "one", "two"]
    press(maker, "up", three)
    press(maker, "down", two)
    assert line(maker) == ["three", "one", "two"]


@pytest.mark.parametrize(
    ("state", "act", "then"),
    [
        (State.QUEUED, "pause", State.PAUSED),
        (State.PAUSED, "resume", State.QUEUED),
        (State.QUEUED, "cancel", State.CANCELLED),
        (State.FAILED, "retry", State.QUEUED),
        (State.CANCELLED, "retry", State.QUEUED),
    ],
)
def test_buttons_do_what_they_say(maker, job, state, act, then):
    made = job(state)
    assert act in acts_of(made)
    assert press(maker, act, made) == ""
    assert maker.desk.get(made.id).state is then


def test_delete_takes_job_and_files(maker, job):
    made = job(State.COMPLETED)
    folder = maker.desk.folder.of(made.id)
    assert folder.is_dir()
    press(maker, "delete", made)
    assert not folder.exists() and maker.desk.list() == ()


def test_too_late_is_a_sentence(maker, job):
    """The list was drawn before the job ended."""
    made = job(State.COMPLETED)
    said = press(maker, "pause", made)
    assert "alert" in said and "not possible" in said
    press(maker, "delete", made)
    assert "alert" in press(maker, "delete", made)


def test_every_button_has_a_deed_or_is_the_pages_own(job):
    job()
    offered = {act for state in State for act in acts_of(job(state), places=9)}
    assert offered == set(DEEDS) | {"show", "reuse"}


@pytest.mark.parametrize(
    "data",
    [
        None,
        3,
        "x",
        {},
        {"act": "delete"},
        {"act": ["delete"], "job": "a"},
        {"act": "delete", "job": "../x"},
        {"act": "delete", "job": 5},
    ],
)
def test_an_event_may_hold_anything(maker, data):
    assert chosen(data) == ("", "") and perform(maker, data, "en") == ""


def test_titles_and_prompts_are_text(maker, job, cards):
    """Row T2: in both lists, in attributes too."""
    job(title=BAD)
    job(State.COMPLETED, title=BAD)
    html = queue_html(maker.desk, cards) + cards.gallery(maker.desk.list(states=(State.COMPLETED,)))
    assert "<script" not in html and '""' not in html.replace('=""', "") and BAD not in html


def test_buttons_have_names_of_their_own(maker, job, cards):
    """Twenty buttons "Delete" are told apart by a screen reader."""
    job(title="Anna"), job(title="Ben")
    html = queue_html(maker.desk, cards)
    assert 'aria-label="Delete: Anna"' in html and 'aria-label="Delete: Ben"' in html


def test_only_those_move_that_can(maker, job, cards):
    """The first of the queue has nothing to overtake, the last nothing to let pass."""
    for title in ("first", "middle", "last"):
        job(title=title)
    shown = queue_html(maker.desk, cards).split("<h3>")[1:]
    moves = {card.split("<")[0]: [act for act in ("up", "down") if f'"{act}"' in card] for card in shown}
    assert moves == {"first": ["down"], "middle": ["up", "down"], "last": ["up"]}


def test_a_search_that_finds_nothing_says_so(cards):
    assert "these words" in cards.gallery([], "no such") and "No finished video" in cards.gallery([], " ")


def test_a_card_has_its_time_for_the_browser(maker, job, cards):
    """The server says UTC, the visitor's browser their own hour (``page.js``)."""
    made = job(State.COMPLETED)
    assert f'made <time datetime="{made.finished.isoformat()}">' in cards.gallery([made])


def test_the_gallery_is_newest_first_in_pages_and_can_be_searched(maker, job):
    for number in range(5):
        job(State.COMPLETED, title=f"Video {number}")
    job(State.FAILED, title="Video x")
    shown, more = finished(maker, "", 3)
    assert [made.order.title for made in shown] == ["Video 4", "Video 3", "Video 2"] and more
    shown, more = finished(maker, "  vIDEO  1 ", 3)
    assert [made.order.title for made in shown] == ["Video 1"] and not more
