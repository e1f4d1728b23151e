// Draws the charts of a page anew, so that they can be hovered and zoomed. Where this does not run, the pictures stay.
for (const figure of document.querySelectorAll("figure[data-chart]")) {
  const { data, layout } = JSON.parse(figure.dataset.chart);
  if (window.innerWidth < 640) {
    // On a phone the panels stand below each other, and their titles take two lines.
    for (const title of layout.annotations ?? []) title.text = title.text.replace(/(.{20,32}) /g, "$1<br>");
    if (layout.grid) {
      const panels = layout.grid.rows * layout.grid.columns;
      layout.height *= layout.grid.columns;
      Object.assign(layout.grid, { rows: panels, columns: 1 });
    }
  }
  const plot = document.createElement("div");
  plot.className = "plot";
  figure.prepend(plot);
  figure.classList.add("live");
  Plotly.newPlot(plot, data, layout, { responsive: true, displayModeBar: false });
}
