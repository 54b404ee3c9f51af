"""How well presence tells the object from everything else: in numbers and in a picture."""

import io
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

from spyropose_ros.core.files import write_bytes
from spyropose_ros.core.presence import PresenceModel
from training import markdown
from training.evaluation.calibration import calibration_bins, calibration_error
from training.presence.crops import Crops
from training.presence.fitting import log_odds

_BINS = 10


def summarise(model: PresenceModel, crops: Crops) -> dict:
    """Measure a model.

    Args:
        model: to measure.
        crops: with the object and without, both.

    Returns:
        Plain values: "object" and "other" (crops), "auc", "ece", "there" (median presence where the
        object is) and, by what else is seen, "kinds" of "crops", "auc" and "presence" (median).
        Parts of the object count under "kinds" only.
    """
    whole = crops.without_parts()
    odds = log_odds(model, whole.evidence)
    right = odds[whole.there]
    kinds = {}
    for kind in sorted(set(crops.kinds.tolist()) - {crops.name}):
        wrong = log_odds(model, crops.evidence[crops.kinds == kind])
        kinds[kind] = {
            "crops": len(wrong),
            "auc": area_under_curve(right, wrong),
            "presence": float(np.median(expit(wrong))),
        }
    return {
        "object": int(whole.there.sum()),
        "other": int((~whole.there).sum()),
        "auc": area_under_curve(right, odds[~whole.there]),
        "ece": calibration_error(expit(odds), whole.there, _BINS, _even_odds(whole.there)),
        "there": float(np.median(expit(right))),
        "kinds": kinds,
    }


def area_under_curve(right: np.ndarray, wrong: np.ndarray) -> float:
    """Compute the probability that a right one has the larger value than a wrong one."""
    ranks = rankdata(np.concatenate((right, wrong)))[: len(right)]
    return float((ranks.sum() - len(right) * (len(right) + 1) / 2) / (len(right) * len(wrong)))


def report_lines(report: dict) -> list[str]:
    """Return a report, `summarise` with "data" and "name", as Markdown."""
    rows = [
        (kind, str(of["crops"]), f"{of['auc']:.3f}", f"{of['presence']:.3f}")
        for kind, of in report["kinds"].items()
    ]
    every = "all of these", str(report["other"]), f"{report['auc']:.3f}", ""
    there = f"{report['name']} itself", str(report["object"]), "", f"{report['there']:.3f}"
    return [
        f"# Presence of {report['name']} on {report['data']}",
        "",
        f"Expected calibration error {report['ece']:.3f}, crops with the object and without "
        "counting half each. Parts of the object count in their own row only.",
        "",
        *markdown.table(
            ("seen", "crops", "AUC against the object", "presence, median"), [*rows, every, there]
        ),
    ]


def draw(path: Path, model: PresenceModel, crops: Crops) -> None:
    """Draw ROC curves by what is seen, calibration, and the presence of both.

    Args:
        path: of the PNG.
        model: to show.
        crops: with the object and without.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.2), layout="constrained")
    roc, calibration, histogram = figure.subplots(1, 3)
    presence = expit(log_odds(model, crops.evidence))
    right = np.sort(presence[crops.there])
    for number, kind in enumerate(sorted(set(crops.kinds.tolist()) - {crops.name})):
        wrong = presence[crops.kinds == kind]
        cuts = np.concatenate(([2.0], np.sort(np.concatenate((right, wrong)))[::-1], [-1.0]))
        taken = 1 - np.searchsorted(right, cuts) / len(right)
        false = 1 - np.searchsorted(np.sort(wrong), cuts) / len(wrong)
        style = ("-", "--")[number // 10 % 2]  # Matplotlib has ten colours
        area = area_under_curve(right, wrong)
        roc.plot(false, taken, style, lw=1.3, label=f"{kind} ({area:.3f})")
    roc.set(
        xlabel="others taken for the object",
        ylabel=f"{crops.name}: found",
        title="ROC (area under the curve)",
        xlim=(-0.01, 0.6),
        ylim=(0.4, 1.01),
    )
    roc.legend(fontsize=7, loc="lower right")
    whole = crops.without_parts()
    known = expit(log_odds(model, whole.evidence))
    weighted = known, whole.there, _BINS, _even_odds(whole.there)
    _, mean, share = calibration_bins(*weighted).T
    calibration.plot([0, 1], [0, 1], color="0.7", lw=1)
    calibration.plot(mean, share, "o-", ms=4)
    calibration.set(
        xlabel="presence",
        ylabel="share of crops with the object",
        title=f"calibration (ECE {calibration_error(*weighted):.3f})",
        aspect="equal",
    )
    edges = np.linspace(0, 1, 21)
    both = [known[whole.there], known[~whole.there]]
    shares = [np.full(len(part), 1 / len(part)) for part in both]
    histogram.hist(both, edges, weights=shares, label=[crops.name, "anything else"])
    histogram.set(xlabel="presence", ylabel="share of crops", title="presence")
    histogram.legend(fontsize=8)
    image = io.BytesIO()
    figure.savefig(image, dpi=110)
    write_bytes(path, image.getvalue())


def _even_odds(there: np.ndarray) -> np.ndarray:
    """Return weights by which crops with the object and without count half each, [N]."""
    return np.where(there, 0.5 / there.sum(), 0.5 / (~there).sum())
