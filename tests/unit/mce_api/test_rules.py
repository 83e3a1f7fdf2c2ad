from decimal import Decimal

import pytest

from mce_api import rules


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (2, Decimal(2)),
        ("2", Decimal(2)),
        ("250m", Decimal("0.25")),
        ("1.5", Decimal("1.5")),
        ("1Ki", Decimal(1024)),
        ("1k", Decimal(1000)),
        ("512Mi", Decimal(536870912)),
        ("123456789n", Decimal("0.123456789")),
        ("15u", Decimal("0.000015")),
    ],
)
def test_a_quantity_is_read_as_kubernetes_does(text: int | str, value: Decimal) -> None:
    assert rules.quantity(text) == value


@pytest.mark.parametrize("text", ["", "m", "1Kb", "-1", "1e3x", "one"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a Kubernetes quantity"):
        rules.quantity(text)


def test_no_rule_loses_its_message_by_a_plus_or_a_reason() -> None:
    assert len({rule.name for rule in rules.RULES}) == len(rules.RULES)
    assert all(rule.message for rule in rules.RULES)
