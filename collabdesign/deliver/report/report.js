"use strict";
// Draws the figures of the page's data. Every figure is complete; a selector picks another one.
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const config = {
    displaylogo: false,
    responsive: true,
    // plotly offers by itself to send a chart to its cloud: nothing here leaves the machine.
    showSendToCloud: false,
    plotlyServerURL: "",
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
    toImageButtonOptions: { format: "svg", filename: "collabdesign" },
  };

  function draw(place) {
    const choice = document.querySelector(`select[data-for~="${place.id}"]`);
    const variants = figures[place.id];
    const figure = variants[choice ? choice.value : "all"];
    // plotly writes into what it is given: it gets a copy.
    const copy = JSON.parse(JSON.stringify(figure));
    return Plotly.react(place, copy.data, copy.layout, config);
  }

  const places = [...document.querySelectorAll(".plot")];
  for (const select of document.querySelectorAll("select[data-for]")) {
    select.addEventListener("change", () => {
      places.filter((place) => select.dataset.for.split(" ").includes(place.id)).forEach(draw);
    });
  }
  Promise.all(places.map(draw)).then(() => document.body.classList.add("drawn"));

  // Paper is narrower than the window: plots do not follow by themselves.
  window.addEventListener("beforeprint", () => {
    for (const place of places) Plotly.relayout(place, { width: 690 });
  });
  window.addEventListener("afterprint", () => places.forEach(draw));
})();
