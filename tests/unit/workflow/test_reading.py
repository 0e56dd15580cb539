"""Both forms of a workflow become the same graph; what only the canvas has is gone."""

from __future__ import annotations

import json

import pytest

from infinite_talk import InputError
from infinite_talk.frontends.workflow.declared import declaration
from infinite_talk.frontends.workflow.editor import read_editor
from infinite_talk.frontends.workflow.graph import Graph, Link, Node
from infinite_talk.frontends.workflow.reading import read_workflow
from infinite_talk.frontends.workflow.widgets import named_values
from tests.unit.workflow.stand_ins import CLASSES, Canvas, Sum


def read(canvas: Canvas) -> Graph:
    return read_editor(canvas.json(), CLASSES)


@pytest.mark.parametrize(
    ("values", "named", "surplus"),
    [
        ([5, 7, "fixed", "minus"], {"a": 5, "seed": 7, "mode": "minus"}, []),
        ([5, 7, "randomize"], {"a": 5, "seed": 7}, []),  # an older node, without mode
        (
            [5, 7, "minus"],
            {"a": 5, "seed": 7, "mode": "minus"},
            [],
        ),  # saved by a server, which keeps no control
        ([5, 7, "fixed", "minus", None, ""], {"a": 5, "seed": 7, "mode": "minus"}, []),
        ([5, 7, "fixed", "minus", "more"], {"a": 5, "seed": 7, "mode": "minus"}, ["more"]),
        ({"a": 5, "mode": "minus", "videopreview": {}, "old": 1}, {"a": 5, "mode": "minus"}, ["old=1"]),
        (None, {}, []),
    ],
)
def test_values_get_their_names(values, named, surplus):
    assert named_values(values, declaration(Sum)) == (named, surplus)


def test_names_in_the_file_win_over_our_order_when_they_name_every_value():
    declared = declaration(Sum)
    assert named_values(["minus", 3], declared, ["mode", "a"])[0] == {"mode": "minus", "a": 3}
    # An old editor lists only the fields that were made inputs; its values follow the declaration.
    assert named_values([3, 9, "fixed", "minus"], declared, ["a"])[0] == {"a": 3, "seed": 9, "mode": "minus"}


def test_named_wires_reroutes_and_boxes_of_values_are_followed():
    canvas = Canvas()
    number = canvas.box("Number", [4])
    store, get, turn = canvas.box("SetNode", ["n"]), canvas.box("GetNode", ["n"]), canvas.box("Reroute")
    value, total, show = (
        canvas.box("PrimitiveNode", [9, "fixed"]),
        canvas.box("Sum", [1, 2]),
        canvas.box("Show"),
    )
    canvas.box("MarkdownNote", ["read me"])
    canvas.wire(number, 0, store, "INT")
    canvas.wire(get, 0, turn, "")
    canvas.wire(turn, 0, total, "b")
    canvas.wire(value, 0, total, "a", widget=True)
    canvas.wire(store, 0, show, "source")  # a SetNode hands on what it stores

    graph = read(canvas)

    assert set(graph.nodes) == {str(number), str(total), str(show)}
    assert graph.nodes[str(total)].inputs == {"a": 9, "seed": 2, "b": Link(str(number), 0)}
    assert graph.nodes[str(show)].inputs == {"source": Link(str(number), 0)}


def test_a_bypassed_node_hands_on_what_fits_and_a_muted_one_nothing():
    canvas = Canvas()
    number, passed = canvas.box("Number", [4]), canvas.box("Sum", [1, 2], mode=4, outputs=("INT", "STRING"))
    muted, show, other = canvas.box("Number", [1], mode=2), canvas.box("Show"), canvas.box("Sum", [1, 2])
    canvas.wire(number, 0, passed, "b")
    canvas.wire(passed, 0, show, "source")
    canvas.wire(muted, 0, other, "b")
    canvas.wire(passed, 1, other, "mode", kind="STRING")

    graph = read(canvas)

    assert graph.nodes[str(show)].inputs == {"source": Link(str(number), 0)}
    assert str(passed) not in graph.nodes and str(muted) not in graph.nodes
    assert "muted" in graph.nodes[str(other)].unreachable["b"]
    assert "bypassed" in graph.nodes[str(other)].unreachable["mode"]  # no STRING goes in to be handed on


def test_a_named_wire_without_a_source_is_said():
    canvas = Canvas()
    get, show = canvas.box("GetNode", ["gone"]), canvas.box("Show")
    canvas.wire(get, 0, show, "source")
    assert 'stored as "gone"' in read(canvas).nodes[str(show)].unreachable["source"]


def test_wires_in_a_circle_end():
    canvas = Canvas()
    one, two, show = canvas.box("Reroute"), canvas.box("Reroute"), canvas.box("Show")
    canvas.wire(one, 0, two, "")
    canvas.wire(two, 0, one, "")
    canvas.wire(two, 0, show, "source")
    with pytest.raises(InputError, match="circle"):
        read(canvas)


def test_a_subgraph_is_refused_with_a_way_out():
    canvas = Canvas()
    canvas.box("3f2c-uuid")
    data = canvas.json() | {"definitions": {"subgraphs": [{"id": "3f2c-uuid", "name": "Talk"}]}}
    with pytest.raises(InputError, match=r'subgraph "Talk".*API') as caught:
        read_editor(data, CLASSES)
    assert caught.value.code == "workflow_subgraph"


def test_the_api_form_is_the_same_graph(tmp_path):
    canvas = Canvas()
    number, total, show = canvas.box("Number", [4]), canvas.box("Sum", [1, 2, "fixed"]), canvas.box("Show")
    canvas.wire(number, 0, total, "b")
    canvas.wire(total, 0, show, "source")
    graph = read(canvas)
    for data in (graph.as_prompt(), {"prompt": graph.as_prompt()}):
        file = tmp_path / "api.json"
        file.write_text(json.dumps(data))
        again = read_workflow(file, CLASSES)
        assert again.form == "api"
        assert {key: node.inputs for key, node in again.nodes.items()} == {
            key: node.inputs for key, node in graph.nodes.items()
        }


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"a": 1}', "[" * 100_000, '{"nodes": [1]}', '{"nodes": [], "links": [[1]]}']
)
def test_what_is_no_workflow_is_refused(tmp_path, content):
    file = tmp_path / "w.json"
    file.write_text(content)
    with pytest.raises(InputError) as caught:
        read_workflow(file, CLASSES)
    assert caught.value.code == "workflow_unsupported"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_workflow(tmp_path / "gone.json", CLASSES)


def test_the_order_puts_sources_first_and_finds_circles():
    nodes = {
        "c": Node("c", "Sum", "", {"a": Link("b", 0), "b": Link("a", 0)}),
        "b": Node("b", "Sum", "", {"a": Link("a", 0)}),
        "a": Node("a", "Number", "", {"value": 1}),
        "idle": Node("idle", "Number", "", {}),
    }
    assert [node.id for node in Graph(nodes, "api").order(["c"])] == ["a", "b", "c"]
    nodes["a"] = Node("a", "Sum", "", {"a": Link("c", 0)})
    with pytest.raises(InputError, match="circle: nodes c -> b -> a -> c"):
        Graph(nodes, "api").order(["c"])
    nodes["a"] = Node("a", "Sum", "", {"a": Link("x", 0)})
    with pytest.raises(InputError, match=r"node a \(Sum\) takes something from node x"):
        Graph(nodes, "api").order(["c"])


def test_a_long_chain_is_no_reason_to_fail():
    nodes = {str(n): Node(str(n), "Sum", "", {"a": Link(str(n - 1), 0)} if n else {}) for n in range(5000)}
    assert len(Graph(nodes, "api").order(["4999"])) == 5000
