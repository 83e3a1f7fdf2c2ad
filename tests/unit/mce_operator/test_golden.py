import pytest

from unit.mce_operator import golden


@pytest.mark.parametrize("case", golden.cases())
def test_builders_give_exactly_the_golden_objects(case: str) -> None:
    fix = "if that is wanted: PYTHONPATH=tests .venv/bin/python -m unit.mce_operator.golden"
    assert golden.rendered(case) == golden.stored(case), fix
