"""ReportView -> one HTML file that opens offline, and the front as a table. No torch.

Whatever a person wrote is escaped: in the page by the template's autoescape, in plotly's labels by
:mod:`html`, in the page's data by ``tojson``. No request leaves the machine.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from collabdesign.deliver.comparison import NETSCORE
from collabdesign.deliver.report.comparison_plot import AXES, comparison_figure
from collabdesign.deliver.report.diagram import draw_architecture
from collabdesign.deliver.report.figures import (
    calibration_figure,
    curves_figure,
    hypervolume_figure,
    importance_figure,
    prediction_figure,
)
from collabdesign.deliver.report.front_plot import front_figure
from collabdesign.deliver.report.importance import FEWEST as FEWEST_CANDIDATES
from collabdesign.deliver.report.view import ReportView
from collabdesign.deliver.report.words import (
    HEADS,
    QUANTITIES,
    aim_words,
    describe,
    exact_quantity,
    percent,
    quantities_of,
    short_bytes,
    short_count,
    short_quantity,
    short_time,
)
from collabdesign.deliver.templates import Filters, render
from collabdesign.design.cost import METRICS
from collabdesign.design.requirements import Data
from collabdesign.explore.calibration import KEPT_CORRELATION, SAME_COST
from collabdesign.explore.rank import estimate, spearman
from collabdesign.explore.record import Candidate
from collabdesign.files import write_text

REPORT = "report.html"
FRONT_CSV = "front.csv"

FEWEST_PREDICTIONS = 5  # with fewer, a correlation says nothing

MAX_LISTED = 12  # rows of a list that may be long; what is left out is counted


def write_report(run_dir: Path, view: ReportView) -> Path:
    """Write ``front.csv`` and ``report.html``; returns the report's path."""
    text = render_report(view)
    write_text(run_dir / FRONT_CSV, front_csv(view.front, view.requirements.measured))
    write_text(run_dir / REPORT, text)
    return run_dir / REPORT


def front_csv(front: tuple[Candidate, ...], measured: Sequence[str] = ()) -> str:
    """The front as a table: one row a candidate, the most accurate first; its costs, with those
    that were measured."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(
        ["candidate", "architecture", "proposed_by", "proxy_accuracy", *METRICS, *measured]
    )
    for each in sorted(front, key=lambda each: -(each.accuracy or 0.0)):
        costs = [each.cost[name] for name in (*METRICS, *measured)]
        table.writerow([each.number, each.architecture.id, each.proposed_by, each.accuracy, *costs])
    return text.getvalue()


def render_report(view: ReportView) -> str:
    """One self-contained HTML page: style, script, plots and drawings are inside it."""
    filters: Filters = {
        "count": short_count,
        "bytes": short_bytes,
        "quantity": lambda value, name: short_quantity(name, value),
        "exact": lambda value, name: exact_quantity(name, value),
        "share": percent,
        "seconds": short_time,
    }
    shown = quantities_of(view.requirements)
    return render(
        "report/report.html",
        filters,
        view=view,
        source=_source(view.requirements.data),
        headline=headline(view),
        subline=_subline(view),
        outcomes=outcome_counts(view),
        predictions=prediction_words(view),
        kept_correlation=KEPT_CORRELATION,
        same_cost_factor=SAME_COST,
        fewest_candidates=FEWEST_CANDIDATES,
        proposed_by={each.number: each.proposed_by for each in view.record.candidates},
        metrics=shown,
        heads={name: HEADS[name] for name in shown},
        quantities=QUANTITIES,
        draw=draw_architecture,
        describe=describe,
        aim_words=aim_words,
        max_listed=MAX_LISTED,
        netscore_words=NETSCORE,
        figures=_figures(view),
        plotly=Markup(get_plotlyjs()),
    )


def headline(view: ReportView) -> str:
    """What was found, in a sentence for somebody who reads no further."""
    trained = view.record.trained
    if view.family:
        best = view.family[0].certificate
        found = (
            f"{best.title}: {percent(best.test_accuracy)} on test at "
            f"{short_count(best.cost.macs)} multiply-adds"
        )
        judged = len(best.requirements)
        if not judged:
            return f"{found}."
        if not best.missed:
            every = "its one requirement" if judged == 1 else f"all {judged} requirements"
            return f"{found}, {every} met."
        missed = " and ".join(QUANTITIES.get(row.name, row.name) for row in best.missed)
        met = judged - len(best.missed)
        return f"{found}, {met} of {judged} requirements met: {missed} missed."
    if trained:
        best_proxy = max(trained, key=lambda each: each.accuracy or 0.0)
        return (
            f"{len(trained)} {'proxy' if len(trained) == 1 else 'proxies'} trained, the most "
            f"accurate at {percent(best_proxy.accuracy or 0.0)} and "
            f"{short_count(best_proxy.cost.macs)} multiply-adds; no family yet."
        )
    if ended := len(view.record.finished):
        return f"No network was trained to the end: {ended} stopped or failed."
    if view.record.rejected:
        return f"Nothing was trained: {view.record.rejected} proposals were over a limit."
    return "Nothing was trained yet."


def outcome_counts(view: ReportView) -> str:
    """How many trials ended otherwise than trained: ``3 stopped early, 1 failed``."""
    counts = {"stopped early": len(view.record.stopped), "failed": len(view.record.failed)}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def prediction_words(view: ReportView) -> str:
    """How well the predicted accuracies fit the measured ones; empty under five predictions."""
    known = view.predictions
    if len(known) < FEWEST_PREDICTIONS:
        return ""
    means, measured = [mean for _, mean, _, _ in known], [each[-1] for each in known]
    found = estimate(spearman, means, measured, view.requirements.search.seed)
    inside = sum(abs(reached - mean) <= 2 * deviation for _, mean, deviation, reached in known)
    return (
        f"The proxy accuracy of {len(known)} candidates was predicted before their training. "
        f"Rank correlation of predicted and measured accuracy (Spearman): {found.value:.2f} "
        f"(95 % interval {found.low:.2f} to {found.high:.2f}). Measured accuracies within two "
        f"standard deviations of the prediction: {percent(inside / len(known), 0)} (about 95 % is "
        "expected)."
        + (" The interval reaches down to 0: do not rely on these predictions." * (found.low <= 0))
    )


def _subline(view: ReportView) -> str:
    """The second sentence: the rest of the family, why all failed, or how far the search is."""
    if len(view.family) > 1:
        members = [each.certificate for each in view.family]
        first, small = members[0], min(members, key=lambda each: each.cost.macs)
        good, size = sum(each.meets_all for each in members), len(members)
        met = f"All {size}" if good == size else f"{good} of {size}"
        met += " members meet every requirement."
        if small is first:
            return f"{met} {first.title} is the smallest too."
        fewer = first.cost.macs / max(1, small.cost.macs)
        return (
            f"{met} The smallest, {small.title}, reaches {percent(small.test_accuracy)} on test "
            f"with {short_count(small.cost.macs)} multiply-adds, {fewer:.1f} times fewer than "
            f"{first.title}."
        )
    spent = len(view.record.finished)
    reasons = Counter(each.reason for each in view.record.failed if each.reason)
    if reasons and not view.record.trained:
        reason, count = reasons.most_common(1)[0]
        return f"The most frequent reason, {count} of {spent} times: {reason}."
    asked = view.requirements.search.trials
    if view.state == "running":
        return f"The search is running: {spent} of {asked} trainings are done."
    if view.state == "interrupted":
        return f"The search was interrupted after {spent} of {asked} trainings."
    return ""


def _source(data: Data) -> str:
    """What a person calls the images, without the path to them: reports are passed on."""
    if data.dataset is not None:
        return data.dataset
    return "/".join(data.train.parts[-2:]) if data.train is not None else data.source


def _figures(view: ReportView) -> dict[str, Any]:
    """Every plot by the name of its place in the page; only those with something to show."""
    figures: dict[str, Any] = {}
    candidates = view.record.finished
    if candidates or view.rejections or view.family:
        figures["front"] = {
            axis: front_figure(view, axis) for axis in quantities_of(view.requirements)
        }
    for part, curves in (
        ("family", [each.certificate.curve for each in view.family]),
        ("proxies", [each.curve for each in candidates]),
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
    if view.comparison is not None:
        for axis in AXES:
            figure = comparison_figure(view.comparison, axis)
            if figure["data"]:
                figures[f"compare_{axis}"] = {"all": figure}
    if view.importance.modules:
        figures["importance"] = {"all": importance_figure(view.importance)}
    return figures
