// Draws the charts of a page anew, so that they can be hovered and zoomed. Where this does not run, the pictures stay.
for (const figure of document.querySelectorAll("figure[data-chart]")) {
  const { data, layout } = JSON.parse(figure.dataset.chart);
  const plot = document.createElement("div");
  plot.className = "plot";
  figure.prepend(plot);
  figure.classList.add("live");
  Plotly.newPlot(plot, data, layout, { responsive: true, displayModeBar: false });
}
