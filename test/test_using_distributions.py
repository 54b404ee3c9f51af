"""The examples of docs/using_distributions.md run as printed, and say what the page says."""

import re
from pathlib import Path

import pytest
import torch

from spyropose_ros.scenes.mug import RADIUS

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/using_distributions.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
NOT_RUN = "# Not run by the tests: needs gtsam.\n"


@pytest.fixture(scope="module")
def names():
    """What the page's examples leave behind, one after the other."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for code in CODE:
            if not code.startswith(NOT_RUN):
                exec(code, found)
    return found


def test_only_what_needs_gtsam_is_not_run():
    for code in CODE:
        assert code.startswith(NOT_RUN) == ("gtsam" in code)
        compile(code, "page", "exec")


def test_a_hidden_handle_is_a_poor_grasp(names):
    seen, hidden = (names[key].success(names["grasps"]) for key in ("seen", "hidden"))
    assert float(seen.probabilities.min()) > 0.7
    handle, *others = hidden.probabilities.tolist()
    assert handle < 0.35 and min(others) > 0.5
    assert names["names"][int(hidden.best)] != "handle"
    several = names["success"]  # at the handle, for each mode
    assert 1 - float(several.uncovered) > float(several.probabilities.max()) + 0.1


def test_a_hidden_handle_is_somewhere_behind_the_mug(names):
    handle, hidden, seen = names["handle"], names["hidden"], names["seen"]
    where = hidden.marginal(handle.point, handle.direction)
    R, t = hidden.mode()
    middle = R @ hidden.center + t
    assert float(where.mean[2] - middle[2]) > RADIUS  # farther from the camera
    assert (
        where.direction_spread > 3 * seen.marginal(handle.point, handle.direction).direction_spread
    )
    assert len(where.modes()) > 1 == len(seen.marginal(handle.point).modes(min_mass=0.05))
    assert names["positions"].shape == names["directions"].shape == (1000, 3)


def test_the_rest_of_the_page(names):
    assert 0.7 < float(names["within"]) < 1
    assert "opening" in names["estimator"].bundle.features
    weights = names["mixture"].weights
    assert float(weights.sum()) == pytest.approx(1) and bool((weights.diff() <= 0).all())
    assert torch.linalg.eigvalsh(names["mixture"].covariances).min() > 0
