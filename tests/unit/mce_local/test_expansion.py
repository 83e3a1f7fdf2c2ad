"""`$(NAME)` means on a laptop what it means in a pod; the cases are those of Kubernetes' own expansion_test.go."""

from pathlib import Path

import pytest

from mce_local import expansion
from mce_local.ports import Assigned
from mce_local.runtime import Launch
from mce_local.wanted import Container

KNOWN = {"VAR_A": "A", "VAR_B": "B", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": ""}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("$(VAR_A)$(VAR_B)", "AB"),
        ("$(VAR_REF)", "$(VAR_A)"),
        ("foo$(VAR_EMPTY)bar", "foobar"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("$$(VAR_A)", "$(VAR_A)"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$(VAR_A)", "$$(VAR_A)"),
        ("$VAR_A", "$VAR_A"),
        ("${VAR_A}", "${VAR_A}"),
        ("foo$", "foo$"),
        ("foo$$", "foo$"),
        ("$(VAR_A", "$(VAR_A"),
        ("$()", "$()"),
        ("$($(VAR_A))", "$($(VAR_A))"),
        ("$((VAR_A + 1))", "$((VAR_A + 1))"),
    ],
)
def test_a_reference_is_filled_in_as_in_a_pod(written: str, meant: str) -> None:
    assert expansion.text(written, KNOWN) == meant


def test_commands_arguments_and_later_values_may_use_the_port_and_the_variables_before_them() -> None:
    env = {"EARLY": "$(LATE)", "LATE": "http://$(SAGEMAKER_BIND_TO_PORT)", "LAST": "$(LATE)/$(EARLY)"}
    launch = Launch(
        endpoint="e",
        instance="i",
        container=Container(name="a", image="m:1", command=("run", "$(LAST)"), args=("$(LATE)",), env=env),
        assigned=Assigned(port=20000, block=20000),
        bind_env={"SAGEMAKER_BIND_TO_PORT": "20000"},
        log=Path("log"),
    )
    filled = expansion.filled(launch)
    assert filled.env == {"EARLY": "$(LATE)", "LATE": "http://20000", "LAST": "http://20000/$(LATE)"}
    assert filled.command == ("run", "http://20000/$(LATE)")
    assert filled.args == ("http://20000",)
