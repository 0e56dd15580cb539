"""Nodes run once, in order; results go when they are not needed; errors name their node."""

from __future__ import annotations

import gc
import weakref

import pytest

from infinite_talk import Cancelled, InfiniteTalkError, UsageError
from infinite_talk.frontends.workflow.checking import check_graph
from infinite_talk.frontends.workflow.graph import Graph, Link, Node
from infinite_talk.frontends.workflow.running import run_graph
from tests.unit.workflow.stand_ins import CLASSES, Failing, Number


def run(nodes, classes=CLASSES, **options):
    graph = Graph({node.id: node for node in nodes}, "api")
    checked = check_graph(graph, classes)
    checked.require()
    return run_graph(checked, classes, **options)


def test_a_node_runs_once_however_many_take_from_it(monkeypatch):
    monkeypatch.setattr(Number, "asked", [])
    outcomes = run(
        [
            Node("n", "Number", "", {"value": 3}),
            Node("s", "Sum", "", {"a": Link("n", 0), "b": Link("n", 0), "seed": 4}),
            Node("one", "Show", "", {"source": Link("s", 0)}),
            Node("two", "Show", "", {"source": Link("s", 1)}),
            Node("three", "Show", "", {"source": Link("n", 0)}),
        ],
        hidden={"PROMPT": "p"},
    )
    assert Number.asked == [3]
    assert [outcome.ui["text"] for outcome in outcomes] == [
        ("one: 6 p",),
        ("two: plus 4 p",),
        ("three: 3 p",),
    ]


class Thing:
    """Something that can be watched."""


class MakeThing:
    RETURN_TYPES = ("THING",)
    FUNCTION = "make"
    made: list = []  # noqa: RUF012

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {}}

    def make(self):
        thing = Thing()
        self.made.append(weakref.ref(thing))
        return (thing,)


class UseThing:
    RETURN_TYPES = ("INT",)
    FUNCTION = "use"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"thing": ("THING", {})}}

    def use(self, thing):
        assert isinstance(thing, Thing)
        return (1,)


class Look:
    RETURN_TYPES = ()
    FUNCTION = "look"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"used": ("INT", {})}}

    def look(self, used):
        gc.collect()
        return {"ui": {"alive": [ref() is not None for ref in MakeThing.made], "used": used}}


def test_a_result_goes_after_its_last_use(monkeypatch):
    monkeypatch.setattr(MakeThing, "made", [])
    classes = {"MakeThing": MakeThing, "UseThing": UseThing, "Look": Look}
    nodes = [
        Node("m", "MakeThing", "", {}),
        Node("u", "UseThing", "", {"thing": Link("m", 0)}),
        Node("l", "Look", "", {"used": Link("u", 0)}),
    ]
    assert run(nodes, classes)[0].ui == {"alive": [False], "used": 1}


@pytest.mark.parametrize("error", [ValueError("broken"), UsageError("broken", code="special")])
def test_an_error_names_its_node_and_keeps_its_kind(monkeypatch, error):
    monkeypatch.setattr(Failing, "error", error)
    nodes = [Node("7", "Failing", "My node", {}), Node("8", "Show", "", {"source": Link("7", 0)})]
    with pytest.raises(InfiniteTalkError, match=r'^Node 7 "My node" \(Failing\).*broken') as caught:
        run(nodes)
    assert caught.value.__cause__ is error
    assert caught.value.code == ("special" if isinstance(error, UsageError) else "node_failed")
    assert isinstance(caught.value, UsageError) == isinstance(error, UsageError)


@pytest.mark.parametrize("error", [Cancelled("stop"), KeyboardInterrupt(), MemoryError()])
def test_a_stop_is_no_nodes_fault(monkeypatch, error):
    monkeypatch.setattr(Failing, "error", error)
    nodes = [Node("7", "Failing", "", {}), Node("8", "Show", "", {"source": Link("7", 0)})]
    with pytest.raises(type(error)) as caught:
        run(nodes)
    assert caught.value is error


def test_the_listener_hears_each_node_before_it_runs_and_may_stop_the_run(monkeypatch):
    monkeypatch.setattr(Number, "asked", [])
    heard = []

    def listen(at, count, node, arguments):
        heard.append((at, count, node.id, dict(arguments)))
        if node.id == "s":
            raise Cancelled("enough")

    nodes = [
        Node("n", "Number", "", {"value": 3}),
        Node("s", "Sum", "", {"a": 1, "seed": 4, "b": Link("n", 0)}),
        Node("end", "Show", "", {"source": Link("s", 0)}),
    ]
    with pytest.raises(Cancelled):
        run(nodes, listener=listen)
    assert heard[0] == (0, 3, "n", {"value": 3}) and heard[1] == (1, 3, "s", {"a": 1, "seed": 4, "b": 3})
