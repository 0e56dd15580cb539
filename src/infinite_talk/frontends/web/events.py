"""How handlers are connected: quietly, when a visitor comes, and with the visitor's request."""

from __future__ import annotations

from inspect import isgeneratorfunction
from typing import Any

import gradio as gr

QUIETLY: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""For handlers: no endpoint for programs (they have the HTTP interface), and no veil over what is shown."""
EVERY_PRESS: dict[str, Any] = {**QUIETLY, "trigger_mode": "multiple", "concurrency_limit": None}
"""For the buttons of a list: Gradio forgets a press that comes while it handles the last one, unless told so."""


def page_load() -> Any:  # noqa: ANN401 - an event of Gradio
    """The event of a visitor's coming, of the page that is being built."""
    page = gr.context.Context.root_block
    assert page is not None, "called outside of a page"
    return page.load


def with_request(handler: Any) -> Any:  # noqa: ANN401 - a function
    """A handler of many values that gets the visitor's request too.

    Gradio hands a request to a parameter that is annotated with it, and looks at positional ones only.
    """
    if isgeneratorfunction(handler):

        def follow(request: gr.Request, *values: Any) -> Any:  # noqa: ANN401 - as the handler
            yield from handler(*values, request=request)

        return follow

    def handle(request: gr.Request, *values: Any) -> Any:  # noqa: ANN401 - as the handler
        return handler(*values, request=request)

    return handle
