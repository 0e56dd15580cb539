"""What stands in the way of a workflow is said at once, with id, title and type, before anything runs."""

from __future__ import annotations

import pytest

from infinite_talk import InputError, UsageError
from infinite_talk.frontends.workflow.assign import assign
from infinite_talk.frontends.workflow.checking import check_graph, check_media
from infinite_talk.frontends.workflow.declared import fits
from infinite_talk.frontends.workflow.graph import Graph, Link, Node
from infinite_talk.nodes.declare import Files
from infinite_talk.nodes.helpers.loading import LoadImage
from infinite_talk.nodes.helpers.place import Place
from infinite_talk.nodes.host import Host, hosted
from tests.unit.workflow.stand_ins import CLASSES, Number


class Loader:
    """Has model files."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"model": (Files(["embedded", "wan/a.gguf"]), {})}}

    def load(self, model):
        return (model,)


CLASSES_TOO = {**CLASSES, "Loader": Loader, "LoadImage": LoadImage}


def graph(**nodes: tuple[str, dict]) -> Graph:
    """Of ``name=("Type", inputs)``, with an output on the last one."""
    made = {key: Node(key, kind, f"the {key}", inputs) for key, (kind, inputs) in nodes.items()}
    made["end"] = Node("end", "Show", "", {"source": Link(list(nodes)[-1], 0)})
    return Graph(made, "api")


def kinds(checked):
    return [one.kind for one in checked.problems]


def test_a_sound_workflow_has_steps_and_no_problems():
    checked = check_graph(
        graph(n=("Number", {"value": "7"}), s=("Sum", {"a": 2.0, "seed": 3, "b": Link("n", 0)})), CLASSES
    )
    checked.require()
    assert [step.node.id for step in checked.steps] == ["n", "s", "end"]
    assert checked.steps[0].arguments == {"value": 7}  # text became a number, 2.0 a whole one
    assert checked.steps[1].arguments["a"] == 2 and isinstance(checked.steps[1].arguments["a"], int)


@pytest.mark.parametrize(
    ("nodes", "kind", "words"),
    [
        (
            {"x": ("Nummber", {})},
            "unknown_node",
            'Node x "the x" (Nummber) of this type is not known here. Did you mean Number',
        ),
        ({"x": ("Number", {"value": 101})}, "value", "101"),
        ({"x": ("Number", {"value": "much"})}, "value", "much"),
        ({"x": ("Number", {"value": 1, "other": 2})}, "input", "has no input other; it has value"),
        ({"x": ("Sum", {"a": 1, "seed": 1, "mode": "times"})}, "value", "plus, minus"),
        (
            {"n": ("Sum", {"a": 1, "seed": 1}), "x": ("Number", {"value": Link("n", 1)})},
            "link",
            "expected INT",
        ),
        ({"n": ("Number", {"value": 1}), "x": ("Number", {"value": Link("n", 3)})}, "link", "output 3"),
        ({"x": ("Sum", {"a": 1, "seed": 1, "thing": 5})}, "value", "takes a link of type THING"),
        ({"x": ("Loader", {"model": "wan\\b.gguf"})}, "missing_model", "wan/b.gguf is not here"),
    ],
)
def test_each_problem_names_its_node(nodes, kind, words):
    checked = check_graph(graph(**nodes), CLASSES_TOO)
    assert kinds(checked) == [kind]
    message = checked.problems[0].message
    assert words in message and "node x" in message.lower() and nodes["x"][0] in message
    with pytest.raises(InputError, match="cannot run") as caught:
        checked.require()
    assert caught.value.code == kind


def test_all_problems_are_said_together():
    checked = check_graph(
        graph(a=("Number", {"value": 500}), x=("Sum", {"mode": 1, "b": Link("a", 0)})), CLASSES
    )
    assert kinds(checked) == ["value", "value"]
    notes = [one.message for one in checked.findings if not one.fatal]
    assert any("says nothing about seed; 0 is taken" in note for note in notes)


def test_a_missing_input_is_said():
    checked = check_graph(
        Graph({"end": Node("end", "Show", "", {}, unreachable={"source": "node 3 is muted"})}, "editor"),
        CLASSES,
    )
    assert "lacks its input source: node 3 is muted." in checked.problems[0].message


def test_model_files_are_found_by_windows_names_and_without_their_folder():
    for name in ("wan/a.gguf", "wan\\a.gguf", "other/a.gguf", "embedded"):
        assert not check_graph(graph(x=("Loader", {"model": name})), CLASSES_TOO).problems, name
    with hosted(Host(embedded=True)):
        assert not check_graph(graph(x=("Loader", {"model": "gone.gguf"})), CLASSES_TOO).problems


def test_nodes_that_nothing_needs_are_not_asked_for_anything():
    workflow = graph(n=("Number", {"value": 1}))
    workflow.nodes["lost"] = Node("lost", "Loader", "", {"model": "gone.gguf"})
    checked = check_graph(workflow, CLASSES_TOO)
    assert not checked.problems and [node.id for node in checked.idle] == ["lost"]


def test_media_that_are_not_there_are_named_before_anything_loads(tmp_path):
    checked = check_graph(graph(x=("LoadImage", {"image": "woman.png"})), CLASSES_TOO)
    assert [one.kind for one in check_media(checked, Place(folders=(tmp_path,))).problems] == ["missing_file"]
    (tmp_path / "woman.png").write_bytes(b"x")
    assert not check_media(checked, Place(folders=(tmp_path,))).problems


def test_a_workflow_without_an_output_has_nothing_to_do():
    with pytest.raises(InputError, match="VHS_VideoCombine"):
        check_graph(Graph({"n": Node("n", "Number", "", {"value": 1})}, "api"), CLASSES)


@pytest.mark.parametrize(
    ("given", "wanted", "yes"),
    [
        ("INT", "INT", True),
        ("INT", "FLOAT", True),
        ("FLOAT", "INT", False),
        ("IMAGE", "*", True),
        ("INT", "IMAGE,INT", True),
        ("STRING", "COMBO", True),
        ("LATENT", "IMAGE", False),
    ],
)
def test_which_outputs_go_into_which_inputs(given, wanted, yes):
    assert fits(given, wanted) is yes


def test_inputs_are_set_by_id_title_or_type():
    workflow = graph(
        n=("Number", {"value": 1}), m=("Number", {"value": 2}), s=("Sum", {"a": 1, "b": Link("n", 0)})
    )
    changed = assign(workflow, ["n.value=5", "the m.value=6", "Sum.mode=minus", "s.b=3"], CLASSES)
    assert changed.nodes["n"].inputs["value"] == 5 and changed.nodes["m"].inputs["value"] == 6
    assert changed.nodes["s"].inputs == {"a": 1, "b": 3, "mode": "minus"}
    assert all(
        node.inputs["value"] == 9
        for node in assign(workflow, ["Number.value=9"], CLASSES).nodes.values()
        if node.type == "Number"
    )
    assert workflow.nodes["n"].inputs["value"] == 1  # the first one is untouched


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("value=5", "expected NODE.input"),
        ("n.valu=5", "it has value"),
        ("Numbr.value=5", "Did you mean Number"),
        ("n.value", "expected NODE.input"),
    ],
)
def test_a_wrong_assignment_says_what_there_is(text, words):
    with pytest.raises(UsageError, match=words):
        assign(graph(n=("Number", {"value": 1})), [text], CLASSES)


def test_the_stand_in_counts():
    assert Number.asked == []  # checking runs nothing
