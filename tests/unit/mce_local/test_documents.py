import pytest

from mce_local import documents

GOOD = """\
apiVersion: serving.mce.dev/v1alpha1
kind: MultiContainerEndpoint
metadata: {name: good}
spec:
  mode: Direct
  containers:
    - name: a
      image: m:1
"""


def faults(text: str) -> list[tuple[int, str]]:
    return [(fault.line, fault.violation.path) for document in documents.parse(text, "f") for fault in document.faults]


def test_documents_are_numbered_and_know_their_line_and_name() -> None:
    parsed = documents.parse(GOOD + "---\n" + GOOD.replace("good", "other"), "f")
    assert [(one.number, one.line, one.name) for one in parsed] == [(1, 1, "good"), (2, 10, "other")]
    assert all(one.endpoint and not one.faults for one in parsed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(GOOD + "      port: 80\n", [(9, "spec.containers[0].port")], id="the line of the field"),
        pytest.param(GOOD + "      prot: 8080\n", [(9, "spec.containers[0].prot")], id="an unknown field"),
        pytest.param(
            GOOD.replace("      image: m:1\n", ""), [(7, "spec.containers[0].image")], id="missing: its parent"
        ),
        pytest.param(GOOD + "      image: m:2\n", [(9, "spec.containers[0].image")], id="a key twice: the second"),
        pytest.param(GOOD.replace("  mode: Direct\n", ""), [(4, "spec.mode")], id="a rule over several fields"),
        pytest.param("---\n" + GOOD + "---\n- 1\n", [(11, "(document)")], id="no object"),
        pytest.param("a: [1\n", [(2, "(document)")], id="no YAML"),
        pytest.param(GOOD.replace("v1alpha1", "v9"), [(1, "apiVersion")], id="another version"),
        pytest.param(GOOD.replace("serving.mce.dev", "x.dev"), [(1, "apiVersion")], id="our kind in another group"),
        pytest.param("kind: Secret\n", [(1, "(file)")], id="nothing of ours at all"),
        pytest.param("", [(1, "(file)")], id="nothing at all"),
    ],
)
def test_every_fault_has_its_line(text: str, expected: list[tuple[int, str]]) -> None:
    assert faults(text) == expected


def test_objects_of_others_are_named_not_judged() -> None:
    other = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n---\n"
    first, second = documents.parse(other + GOOD, "f")
    assert (first.skipped, first.faults) == ("Secret/keys", ())
    assert second.endpoint is not None


def test_a_fault_in_one_document_does_not_hide_the_next() -> None:
    first, second = documents.parse(GOOD + "      port: 80\n---\n" + GOOD, "f")
    assert first.faults
    assert second.endpoint is not None


def test_aliases_that_would_grow_without_end_are_refused_before_anything_walks_over_them() -> None:
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 12)]
    (found,) = documents.parse("\n".join(lines), "f")
    assert "more than 100000 values" in found.faults[0].violation.message


def test_a_value_that_is_a_part_of_itself_is_refused() -> None:
    (found,) = documents.parse("a: &a [*a]", "f")
    assert "more than 100000 values" in found.faults[0].violation.message
