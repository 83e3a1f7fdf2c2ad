import pytest

from unit.mce_operator import golden


@pytest.mark.parametrize("case", golden.cases())
def test_builders_give_exactly_the_golden_objects(case: str) -> None:
    assert golden.rendered(case) == golden.stored(case), "if that is wanted: python tests/unit/mce_operator/golden.py"
