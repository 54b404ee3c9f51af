"""What a report says, for people: a few lines and one sentence."""

import math

from spyropose_ros.core.commands import starter

TEMPERATURES_OFF = "temperatures off"
"""How a report's protocol says that the model is not calibrated."""

TEMPERATURES_UNUSED = "temperatures off, as in the paper"
"""How it says that the temperatures, if there are any, are not used."""

FOR_PHOTOGRAPHS = "changed as photographs differ"
"""How the data of a calibration say that they stand for photographs."""

_FEWEST_IMAGES = 20
_INSIDE = 0.8  # least share of truths in the box that is searched
_LEARNED = 0.1  # least log-likelihood, of what all mass in one finest cell would give
_MODES = 0.9
"""Least number of modes in an image, on average: of a trained model's, nearly all have one."""

_MASS = 0.9
_TOLERANCE = 0.05  # of the coverage of the region with that mass


def verdict(report: dict) -> str:
    """Judge a model in one sentence.

    Args:
        report: as `training.evaluate.evaluate` returns it; its first group counts.

    Returns:
        The most serious finding, and what to do about it.
    """
    summary = next(iter(report["metrics"].values()))
    images, inside, covered = summary["images"], summary["inside_box"], summary["coverage"]["0.9"]
    if images < _FEWEST_IMAGES:
        return f"too few images to judge ({images}): evaluate on {_FEWEST_IMAGES} or more"
    if inside < _INSIDE:
        return (
            f"looks in the wrong place: in {1 - inside:.0%} of the images the true pose is outside "
            "the region that is searched around the detector's box; look at the data with "
            f"'{starter()} -m training.inspect_data'"
        )
    if not _has_learned(summary, report["search"]["depth"]):
        return (
            "has not learned: it knows hardly more than the box of the detector; train again for "
            "longer (more --hours), or look at the data with "
            f"'{starter()} -m training.inspect_data'"
        )
    if summary["modes_mean"] < _MODES:
        return (
            "has learned little: in many images no pose stands out, so its errors mean little; "
            "train again for longer (more --hours)"
        )
    share = f"the 90 % region holds the true pose in {covered:.0%} of the images"
    slack = max(_TOLERANCE, 2 * math.sqrt(_MASS * (1 - _MASS) / images))  # two standard errors
    if covered < _MASS - slack:
        if TEMPERATURES_UNUSED in report["protocol"]:
            remedy = "judge its calibration without --paper-protocol, which leaves it out"
        elif TEMPERATURES_OFF in report["protocol"]:
            remedy = f"calibrate it with '{starter()} -m training.calibrate'"
        else:
            remedy = "train on more images like these, and calibrate it on more of them"
        return f"overconfident: {share}; {remedy}"
    if covered > _MASS + slack:
        if FOR_PHOTOGRAPHS in report["protocol"]:
            return f"cautious: {share}; it is calibrated for photographs, and wider elsewhere"
        return f"cautious: {share}, which is safe but wider than necessary"
    return f"calibrated: {share}"


def _has_learned(summary: dict, depth: int) -> bool:
    """Return whether some level gives the truth more than the uniform distribution does.

    The best level, as an overconfident model loses at the finest what it has gained before.
    """
    from spyropose_ros.core import so3_grid  # imports PyTorch

    gains = [mean for mean, _ in summary["ll_uniform_zero_per_level"]]
    axes = 3 if "lateral_median_m" in summary else 0
    cells = so3_grid.cell_count(depth - 1) * 2 ** (depth * axes)
    return max(gains) >= _LEARNED * math.log(cells)


def summary_lines(report: dict) -> list[str]:
    """Return the numbers that matter most, one a line.

    Args:
        report: as `training.evaluate.evaluate` returns it; its first group is shown.

    Returns:
        Five lines; four where the translation is known.
    """
    summary = next(iter(report["metrics"].values()))
    rows = {
        "images": f"{summary['images']} of {report['data']}, {report['split']}",
        "rotation error": f"{summary['rotation_median_deg']:.1f} deg (median); "
        f"{summary['acc_10']:.0%} within 10 deg",
    }
    if "lateral_median_m" in summary:
        rows["position error"] = (
            f"{1e3 * summary['lateral_median_m']:.1f} mm sideways, "
            f"{1e3 * summary['depth_median_m']:.1f} mm in depth (medians)"
        )
    rows["log-likelihood"] = f"{summary['ll_uniform_zero'][0]:.1f} nats above the uniform box"
    rows["90 % region"] = f"holds the true pose in {summary['coverage']['0.9']:.0%} of the images"
    return [f"{name:<16}{text}" for name, text in rows.items()]
