"""Plain view -> one HTML file that opens offline. No torch, no request leaves the machine.

What is shown is gathered elsewhere into a ``ReportView``; here it is only put into words,
figures and a page. Whatever a person wrote is escaped: in the page
by the template's autoescape, in plotly's labels by :mod:`html`, in the page's data by
``tojson``.
"""

from __future__ import annotations

from collections import Counter
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from collabdesign.deliver.report.diagram import draw_architecture
from collabdesign.deliver.report.figures import (
    calibration_figure,
    curves_figure,
    hypervolume_figure,
    importance_figure,
    prediction_figure,
)
from collabdesign.deliver.report.front_plot import AXES, front_figure
from collabdesign.deliver.report.importance import FEWEST as FEWEST_CANDIDATES
from collabdesign.deliver.report.view import (
    AskedView,
    CandidateView,
    CurvePoint,
    DataView,
    PrototypeView,
    ReferenceView,
    RejectedView,
    ReportView,
    RequirementRow,
    VariantView,
)
from collabdesign.deliver.report.words import (
    QUANTITIES,
    describe,
    percent,
    short_bytes,
    short_count,
    short_quantity,
    short_time,
)
from collabdesign.design.files.units import exact_bytes, exact_count
from collabdesign.explore.calibration import KEPT_CORRELATION
from collabdesign.explore.rank import estimate, spearman

__all__ = [
    "AskedView",
    "CandidateView",
    "CurvePoint",
    "DataView",
    "PrototypeView",
    "ReferenceView",
    "RejectedView",
    "ReportView",
    "RequirementRow",
    "VariantView",
    "headline",
    "outcome_counts",
    "prediction_words",
    "render_report",
]

PROPOSED_BY = {"prototype": "the prototype's default", "machine": "machine", "human": "human"}

FEWEST_PREDICTIONS = 5  # under which what came says nothing of them

MAX_LISTED = 12  # rows of a list that may be long; what is left out is counted


def render_report(view: ReportView) -> str:
    """One self-contained HTML page: style, script, plots and drawings are inside it."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": short_count,
        "bytes": short_bytes,
        "quantity": lambda value, name: short_quantity(name, value),
        "exact": _exact,
        "share": percent,
        "seconds": short_time,
    }
    trained = view.with_outcome("trained")
    ended = view.with_outcome("stopped", "failed")
    front = sorted((each for each in trained if each.on_front), key=lambda each: each.cost.macs)
    return environment.from_string(_package_text("report.html")).render(
        view=view,
        asked=view.asked,
        headline=headline(view),
        subline=_subline(view),
        trained=trained,
        ended=ended,
        outcomes=outcome_counts(view),
        predictions=prediction_words(view),
        kept_correlation=KEPT_CORRELATION,
        fewest_candidates=FEWEST_CANDIDATES,
        proposed_by=PROPOSED_BY,
        front=front,
        prototype=_prototype_candidate(view),
        axes=[(axis, QUANTITIES[axis]) for axis in AXES],
        quantities=QUANTITIES,
        diagrams=[
            Markup(draw_architecture(each.architecture, f"structure of {each.title}"))
            for each in view.family
        ],
        describe=describe,
        max_listed=MAX_LISTED,
        figures=_figures(view),
        style=Markup(_package_text("report.css")),
        script=Markup(_package_text("report.js")),
        plotly=Markup(get_plotlyjs()),
    )


def headline(view: ReportView) -> str:
    """What was found, in a sentence for somebody who reads no further."""
    trained, ended = view.with_outcome("trained"), view.with_outcome("stopped", "failed")
    if view.family:
        best = view.family[0]
        macs = f"{short_count(best.cost.macs)} multiply-adds"
        if best.test_accuracy is None:
            return f"{best.title} is at {macs}; its accuracy on test is not read yet."
        found = f"{best.title}: {percent(best.test_accuracy)} on test at {macs}"
        judged = len(best.requirements)
        if not judged:
            return f"{found}."
        if not best.missed:
            return f"{found}, {_all(judged, 'requirement')} met."
        met = sum(row.met is True for row in best.requirements)
        missed = " and ".join(QUANTITIES.get(row.name, row.name) for row in best.missed)
        return f"{found}, {met} of {judged} requirements met: {missed} missed."
    if trained:
        best_proxy = max(trained, key=lambda each: each.accuracy or 0.0)
        return (
            f"{_plural(len(trained), 'proxy', 'proxies')} trained, the most accurate at "
            f"{percent(best_proxy.accuracy or 0.0)} and "
            f"{short_count(best_proxy.cost.macs)} multiply-adds; no family yet."
        )
    if ended:
        return f"No network was trained to the end: {len(ended)} stopped or failed."
    if view.rejected_count:
        return f"Nothing was trained: {view.rejected_count} proposals were over a limit."
    return "Nothing was trained yet."


def outcome_counts(view: ReportView) -> str:
    """How many trials ended otherwise than trained: ``3 stopped early, 1 failed``."""
    counts = {
        "stopped early": len(view.with_outcome("stopped")),
        "failed": len(view.with_outcome("failed")),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def prediction_words(view: ReportView) -> str:
    """How well what was predicted fits what came; empty under five predictions."""
    known = view.predictions
    if len(known) < FEWEST_PREDICTIONS:
        return ""
    found = estimate(
        spearman, [mean for _, mean, _, _ in known], [came for *_, came in known], view.asked.seed
    )
    inside = sum(abs(came - mean) <= 2 * deviation for _, mean, deviation, came in known)
    return (
        f"Before it was trained, {len(known)} candidates' proxy accuracy was predicted. Rank "
        f"correlation with what came (Spearman): {found.value:.2f} (95 % interval "
        f"{found.low:.2f} to {found.high:.2f}). Within two deviations of the prediction: "
        f"{percent(inside / len(known), 0)}, where about 95 % should be."
        + (" So the predictions may have told nothing here." if found.low <= 0 else "")
    )


def _subline(view: ReportView) -> str:
    """The second sentence: the rest of the family, what failed, or how far the search is."""
    if len(view.family) > 1:
        first, small = view.family[0], min(view.family, key=lambda each: each.cost.macs)
        accuracy = (
            "" if small.test_accuracy is None else f" at {percent(small.test_accuracy)} on test"
        )
        good = sum(not each.missed for each in view.family)
        size = len(view.family)
        keep = (
            f"All {size} members meet every requirement"
            if good == size
            else f"{good} of {size} members meet every requirement"
        )
        if small is first:
            return f"{keep}. {first.title} is the smallest too."
        fewer = first.cost.macs / max(1, small.cost.macs)
        return (
            f"{keep}. The smallest, {small.title}, needs {short_count(small.cost.macs)} "
            f"multiply-adds, {fewer:.1f} times fewer than {first.title},{accuracy}."
        )
    reasons = Counter(each.reason for each in view.with_outcome("failed") if each.reason)
    if reasons and not view.with_outcome("trained"):
        reason, count = reasons.most_common(1)[0]
        return f"Most often, {count} of {len(view.candidates)} times: {reason}."
    spent = len(view.candidates)
    if view.state == "running":
        return f"The search is running: {spent} of {view.asked.trials} trainings are done."
    if view.state == "interrupted":
        return f"The search was interrupted after {spent} of {view.asked.trials} trainings."
    return ""


def _exact(value: int, name: str) -> str:
    """A limit as a person writes it."""
    return exact_bytes(value) if name.endswith("_bytes") else exact_count(value)


def _plural(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _all(count: int, what: str) -> str:
    return f"its one {what}" if count == 1 else f"all {count} {what}s"


def _prototype_candidate(view: ReportView) -> CandidateView | None:
    if view.prototype is None:
        return None
    number = view.prototype.candidate
    return next((each for each in view.candidates if each.number == number), None)


def _figures(view: ReportView) -> dict[str, Any]:
    """Every plot by the name of its place in the page; only those with something to show."""
    figures: dict[str, Any] = {}
    if view.candidates or view.rejected or view.family:
        figures["front"] = {axis: front_figure(view, axis) for axis in AXES}
    for part, curves in (
        ("family", [each.curve for each in view.family]),
        ("proxies", [each.curve for each in view.candidates]),
    ):
        if any(curves):
            figures[part] = {
                quantity: curves_figure(view, part, quantity) for quantity in ("accuracy", "loss")
            }
    if len(view.hypervolume) > 1:
        figures["hypervolume"] = {"all": hypervolume_figure(view)}
    if view.calibration is not None:
        figures["calibration"] = {"all": calibration_figure(view.calibration)}
    if len(view.predictions) >= FEWEST_PREDICTIONS:
        figures["predictions"] = {"all": prediction_figure(view)}
    if view.importance is not None and view.importance.modules:
        figures["importance"] = {"all": importance_figure(view.importance)}
    return figures


def _package_text(name: str) -> str:
    return resources.files("collabdesign.deliver.report").joinpath(name).read_text(encoding="utf-8")
