"use strict";
// Draws the figures of the page's data. Every figure is complete; a selector picks another one.
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  // What all figures look like; fonts as in report.css.
  const ink = "#1f2933", pale = "#cbd2d9";
  const axis = {
    title: { font: { size: 13 }, standoff: 10 },
    showline: true,
    linecolor: pale,
    gridcolor: "#e9edf1",
    zeroline: false,
    ticks: "outside",
    tickcolor: pale,
    ticklen: 4,
    tickfont: { size: 12 },
  };
  const style = {
    xaxis: axis,
    yaxis: axis,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: {
      family: 'Inter, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", "Liberation Sans", Arial, ' +
        "system-ui, sans-serif",
      size: 13,
      color: ink,
    },
    hovermode: "closest",
    hoverlabel: {
      align: "left",
      bgcolor: "white",
      bordercolor: pale,
      font: {
        family: 'ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace',
        size: 12,
        color: ink,
      },
      namelength: -1,
    },
    legend: { orientation: "h", x: 0, xanchor: "left", y: 1, yanchor: "top", yref: "container" },
    dragmode: "zoom",
    modebar: {
      orientation: "v", bgcolor: "rgba(0,0,0,0)", color: "#9aa5b1", activecolor: ink,
    },
  };
  const config = {
    displaylogo: false,
    responsive: true,
    // plotly offers by itself to send a chart to its cloud: nothing here leaves the machine.
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: "collabdesign" },
  };

  // On a phone: less margin, a legend of full width, and a finger scrolls the page.
  function narrow(layout, traces) {
    layout.margin.r = 10;
    layout.margin.l = Math.min(layout.margin.l, 106);
    layout.dragmode = false;
    if (layout.showlegend === false) return;
    layout.legend = { xref: "container", font: { size: 11 } };
    const more = 11 * traces.filter((trace) => trace.showlegend !== false).length;
    layout.margin.t += more;
    layout.height += more;
  }

  function draw(place) {
    const choice = document.querySelector(`select[data-for~="${place.id}"]`);
    const variants = figures[place.id];
    const figure = variants[choice ? choice.value : "all"];
    // plotly writes into what it is given: it gets a copy.
    const copy = JSON.parse(JSON.stringify(figure));
    copy.layout.template = { layout: style };
    const small = window.innerWidth < 600;
    if (small) narrow(copy.layout, copy.data);
    return Plotly.react(place, copy.data, copy.layout, { ...config, displayModeBar: !small });
  }

  const places = [...document.querySelectorAll(".plot")];
  for (const select of document.querySelectorAll("select[data-for]")) {
    select.addEventListener("change", () => {
      places.filter((place) => select.dataset.for.split(" ").includes(place.id)).forEach(draw);
    });
  }
  Promise.all(places.map(draw)).then(() => document.body.classList.add("drawn"));

  // Texts in the drawings have a length for the widest font; where this font fits, none is needed.
  for (const text of document.querySelectorAll("svg.architecture text[textLength]")) {
    const room = text.getAttribute("textLength");
    text.removeAttribute("textLength");
    if (text.getComputedTextLength() > room) text.setAttribute("textLength", room);
  }

  // Paper is narrower than the window: plots do not follow by themselves.
  window.addEventListener("beforeprint", () => {
    for (const place of places) Plotly.relayout(place, { width: 690 });
  });
  window.addEventListener("afterprint", () => places.forEach(draw));
})();
