"""The tab Gallery: finished videos, newest first; and the settings of any video that this program has made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr
from pydantic import TypeAdapter

from infinite_talk import InfiniteTalkError, Request
from infinite_talk.frontends.web.cards import ACTS, Cards
from infinite_talk.frontends.web.create import Create
from infinite_talk.frontends.web.events import EVERY_PRESS, QUIETLY
from infinite_talk.frontends.web.files import file_field
from infinite_talk.frontends.web.form import fields_of
from infinite_talk.frontends.web.language import language_of
from infinite_talk.frontends.web.making import Maker
from infinite_talk.frontends.web.node_fields import values_of
from infinite_talk.frontends.web.telling import told
from infinite_talk.frontends.web.waiting import chosen, perform
from infinite_talk.jobs import Job, State
from infinite_talk.jobs.node_options import NodeOptions

_REQUESTS = TypeAdapter(Request)
PAGE = 12
"""Videos that are shown at first, and that each press of the button adds."""


def build(
    maker: Maker,
    create: Create,
    tab: gr.Tab,
    open_job: Callable[[gr.HTML], None],
    tabs: gr.Tabs,
    said: gr.HTML,
) -> None:
    """Make the components and connect them. Called within the tab.

    Args:
        create: the tab that takes settings over.
        tab: the gallery itself; it is drawn when it is opened.
        open_job: connects what shows a job or takes its settings to the list's events.
        tabs: all of them, to go to Create.
        said: above the tabs; tells that settings were taken over.
    """
    label = maker.texts.label
    search = gr.Textbox("", label=label("gallery_search"), max_lines=1, elem_id="gallery_search")
    with gr.Accordion(label("reuse"), open=False, elem_id="reuse"):
        file = file_field(
            label=label("reuse_upload"), file_types=[".mp4", ".json"], height=150, elem_id="reuse_file"
        )
    complaint = gr.HTML(elem_id="gallery_complaint")
    videos = gr.HTML(elem_id="gallery", js_on_load=ACTS)
    more = gr.Button(label("gallery_more"), visible=False, elem_id="gallery_more")
    count = gr.State(PAGE)

    def draw(words: str, limit: int, request: gr.Request) -> tuple[str, Any]:
        cards = Cards(maker.texts, language_of(request), maker.options.videos)
        jobs, others = finished(maker, words, limit)
        return cards.gallery(jobs, words), gr.update(visible=others)

    def act(event: gr.EventData, request: gr.Request) -> str:
        return perform(maker, event._data, language_of(request))

    def take_over(path: object, request: gr.Request) -> list[Any]:
        language = language_of(request)
        try:
            file = maker.uploaded(path)
            if file is None:
                return [gr.skip()] * (len(create.fields) + 2)
            recipe = maker.options.checker.recipe(file)
        except InfiniteTalkError as error:
            return [told(maker.texts, language, error), gr.skip(), *[gr.skip()] * len(create.fields)]
        message = reused(maker, language, file.name)
        return [message, gr.Tabs(selected="create"), *updates(create, recipe.request, {}, recipe.options)]

    shown, asked = [videos, more], [search, count]
    tab.select(draw, asked, shown, concurrency_limit=None, **QUIETLY)
    search.change(draw, asked, shown, trigger_mode="always_last", concurrency_limit=None, **QUIETLY)
    more.click(lambda limit: limit + PAGE, count, count, **QUIETLY).then(draw, asked, shown, **QUIETLY)
    videos.submit(act, None, complaint, **EVERY_PRESS).then(draw, asked, shown, **QUIETLY)
    file.upload(take_over, file, [said, tabs, *create.fields.values()], **QUIETLY)
    open_job(videos)


def finished(maker: Maker, words: str, limit: int) -> tuple[list[Job], bool]:
    """Finished jobs in whose title or description all words occur, and whether there are more than ``limit``."""
    wanted = words.casefold().split()
    if not wanted:
        jobs = list(maker.desk.list(states=(State.COMPLETED,), limit=limit + 1))
        return jobs[:limit], len(jobs) > limit
    found = [
        job
        for job in maker.desk.list(states=(State.COMPLETED,))
        if all(word in f"{job.order.title} {job.order.request.prompt}".casefold() for word in wanted)
    ]
    return found[:limit], len(found) > limit


def updates(
    create: Create,
    written: Mapping[str, Any],
    extra: Mapping[str, Any],
    options: NodeOptions,
) -> list[Any]:
    """New values of the form's fields from the JSON of a request; fields that it does not touch are left alone."""
    values = fields_of(written, extra) | values_of(options)
    return [gr.update(value=values[name]) if name in values else gr.skip() for name in create.fields]


def reused(maker: Maker, language: str, name: str) -> str:
    """That settings were taken over, and what is still missing."""
    done = maker.texts.html(language, "reuse_done", name=name)
    return f'<p class="it-good" role="status">{done} {maker.texts.html(language, "reuse_files")}</p>'


def opener(maker: Maker, create: Create, tabs: gr.Tabs, said: gr.HTML) -> Callable[[gr.HTML], None]:
    """What connects a list's buttons Show and Use its settings to the tab Create."""

    def go(event: gr.EventData, request: gr.Request) -> list[Any]:
        act, known = chosen(event._data)
        stay = [gr.skip()] * (len(create.fields) + 4)
        if act == "show":
            return [gr.Tabs(selected="create"), known, gr.Timer(active=True), "", *stay[4:]]
        if act != "reuse":
            return stay
        language = language_of(request)
        try:
            job = maker.desk.get(known)
        except InfiniteTalkError as error:
            return [*stay[:3], told(maker.texts, language, error), *stay[4:]]
        written = _REQUESTS.dump_python(job.order.request, mode="json")
        message = reused(maker, language, job.order.title or job.id)
        return [
            gr.Tabs(selected="create"),
            *stay[1:3],
            message,
            *updates(create, written, job.order.extra, job.order.options),
        ]

    def connect(jobs: gr.HTML) -> None:
        jobs.submit(
            go,
            None,
            [tabs, create.job, create.timer, said, *create.fields.values()],
            **EVERY_PRESS,
        )

    return connect
