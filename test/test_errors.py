"""Errors of the core have one base."""

import ast
from pathlib import Path

from spyropose_ros.core import errors

CORE = Path(errors.__file__).parent


def test_all_have_one_base_and_a_builtin_one_where_callers_expect_it():
    own = [value for value in vars(errors).values() if isinstance(value, type)]
    assert all(issubclass(error, errors.SpyroposeError) for error in own)
    assert all(error.__name__.endswith("Error") for error in own)
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.ScorerError, FloatingPointError)


def test_the_core_raises_no_others():
    raised = {
        node.exc.func.id
        for file in CORE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Raise)
        and isinstance(node.exc, ast.Call)
        and isinstance(node.exc.func, ast.Name)
    }
    assert {name for name in raised if not hasattr(errors, name)} <= {
        "OSError",
        "SystemExit",
        "undescribed",
        "_unfitting",
    }
