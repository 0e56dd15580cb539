"""The page: its frame, its tabs, and how it hangs in the server that answers programs too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import gradio as gr
from fastapi import FastAPI

from infinite_talk.frontends.web import create, gallery, waiting
from infinite_talk.frontends.web.door import guard
from infinite_talk.frontends.web.early import put_early
from infinite_talk.frontends.web.events import QUIETLY
from infinite_talk.frontends.web.finding import ROOT
from infinite_talk.frontends.web.making import Maker
from infinite_talk.frontends.web.options import PageOptions
from infinite_talk.frontends.web.texts import LANGUAGES, Texts
from infinite_talk.frontends.web.uploads import keep_swept
from infinite_talk.jobs.desk import Desk

WAITING = 400
"""Events of all visitors that may wait at a time."""
AT_ONCE = 16
"""Events of one kind that are answered at a time."""


def build(desk: Desk, options: PageOptions) -> gr.Blocks:
    """Make the page. It knows the desk and nothing of models; one page serves all visitors."""
    options.uploads.mkdir(parents=True, exist_ok=True)
    # Gradio keeps uploads where this variable says, and knows no other way to be told.
    os.environ["GRADIO_TEMP_DIR"] = str(options.uploads.resolve())
    maker = Maker(desk, options)
    label = maker.texts.label
    with gr.Blocks(title="Infinite Talk", analytics_enabled=False, fill_width=False) as page:
        gr.HTML(_head(maker.texts), elem_id="head")
        said = gr.HTML(elem_id="said")
        timers = {"queue": gr.Timer(2 * options.every, active=False)}
        timers |= {part.id: gr.Timer(part.every, active=False) for part in options.sections if part.every}

        def tab(name: str, key: str) -> gr.Tab:
            made = gr.Tab(label(key), id=name)
            _keep_time(made, timers)
            return made

        with gr.Tabs(selected="create", elem_id="tabs") as tabs:
            with tab("create", "tab_create") as first:
                made = create.build(maker, first)
            connect = gallery.opener(maker, made, tabs, said)
            with tab("queue", "tab_queue") as queue:
                waiting.build(maker, queue, timers["queue"], connect)
            with tab("gallery", "tab_gallery") as finished:
                gallery.build(maker, made, finished, connect, tabs, said)
            for part in options.sections:
                with tab(part.id, part.label) as other:
                    part.build(other, timers.get(part.id))
    page.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE, api_open=False)
    blocks: gr.Blocks = page
    return blocks


def _keep_time(tab: gr.Tab, timers: Mapping[str, gr.Timer]) -> None:
    """Let each tab's timer run while the tab is looked at, and no longer.

    In the browser, and before the tab's own handlers: Gradio waits for each handler of an event before it begins the
    next one. When the server switched the timers, the answer for a tab that somebody had left could come last.
    """
    states = ", ".join(f"{{__type__: 'update', active: {str(name == tab.id).lower()}}}" for name in timers)
    tab.select(None, None, list(timers.values()), js=f"() => [{states}]", **QUIETLY)


def mount(app: FastAPI, page: gr.Blocks, options: PageOptions) -> None:
    """Hang the page into the application at ``/ui``.

    Gradio checks the paths that browsers send only on pages that it has launched itself (ECOSYSTEM, fact 13); the flag
    says that this one was. A door of our own (``door.py``) looks at every path besides, and leaves few routes open; the
    fields check what they get once more (``files.py``).
    """
    page.has_launched = True
    gr.mount_gradio_app(
        app,
        page,
        path=ROOT,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        blocked_paths=[],
        show_error=False,
        max_file_size=options.max_upload,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        i18n=Texts.load().translations(),
        theme=theme(),
    )
    # Not as ``css``: Gradio would put its container before every rule, and some of ours look at the document.
    put_early(app, ROOT, f"<style>{_own('style.css')}</style><script>{_own('page.js')}</script>")
    guard(app, ROOT, options.uploads)
    keep_swept(app, options.uploads)


def theme() -> gr.themes.Base:
    """The look, with the fonts that the visitor's system has: nothing is fetched from elsewhere."""
    sans = [
        "system-ui",
        "-apple-system",
        "Segoe UI",
        "PingFang SC",
        "Microsoft YaHei",
        "Noto Sans CJK SC",
        "sans-serif",
    ]
    return gr.themes.Base(
        primary_hue=gr.themes.colors.sky,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_lg,
        font=sans,
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    ).set(
        # White on the theme's own blue has a contrast of 2.8; on this one of 5.9 (WCAG 2.2 asks for 4.5).
        color_accent="*primary_700",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        link_text_color_dark="*primary_300",
        link_text_color_hover_dark="*primary_200",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
    )


def _head(texts: Texts) -> str:
    """Name, what it does, languages and theme. In both languages, as the browser shows the right one at once."""
    motto = "".join(
        f'<span lang="{language}">{texts.say(language, "motto")}</span>' for language in LANGUAGES
    )
    theme_button = "".join(
        f'<span lang="{language}">{texts.say(language, "theme_switch")}</span>' for language in LANGUAGES
    )
    languages = "".join(
        f'<button type="button" data-language="{language}" lang="{language}">{name}</button>'
        for language, name in LANGUAGES.items()
    )
    offline = "".join(
        f'<span lang="{language}">{texts.say(language, "offline_note")}</span>' for language in LANGUAGES
    )
    return (
        f'<div class="it-offline" role="alert" hidden>{offline}</div>'
        f'<header class="it-head"><div class="it-spread"><h1>Infinite Talk</h1><p>{motto}</p></div>'
        f'<div class="it-pills">{languages}'
        f'<button type="button" data-theme-switch>{theme_button}</button></div></header>'
    )


def _own(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def uploads_of(data: Path) -> Path:
    """Where uploads lie in a data folder."""
    return data / "uploads"
