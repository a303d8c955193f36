/* Overlap at every size of the circuits, with its yardsticks, and a mark where the slider stands. */
"use strict";

mechshiftExplorer.Chart = class {
  /* `onChoose` gets the stop that was clicked or dragged to. */
  constructor(holder, onChoose) {
    this.holder = holder;
    holder.innerHTML = `<svg viewBox="0 0 344 222" role="img" aria-label="Jaccard index at every number of edges; the values at the slider stand in the table below"><g class="grid"></g><g class="curves"></g><g class="mark"></g></svg>`;
    this.svg = holder.firstElementChild;
    const choose = (event) => {
      if (event.type === "pointermove" && !event.buttons) return;
      const box = this.svg.getBoundingClientRect();
      const wanted = ((event.clientX - box.left) / box.width) * 344;
      const away = this.stops.map((count) => Math.abs(this.x(count) - wanted));
      onChoose(away.indexOf(Math.min(...away)));
    };
    this.svg.addEventListener("pointerdown", choose);
    this.svg.addEventListener("pointermove", choose);
  }

  x(count) {
    const last = this.stops[this.stops.length - 1];
    return 34 + (288 * Math.log(count)) / Math.log(last);
  }

  y(value) {
    return 182 - 170 * value;
  }

  /* Draw curves: `{ kind, values, low, high }`, one value a stop; the last lies on top. */
  draw(stops, curves) {
    this.stops = stops;
    this.curves = curves;
    let grid = "";
    for (const value of [0, 0.25, 0.5, 0.75, 1]) {
      grid += `<line x1="34" x2="322" y1="${this.y(value)}" y2="${this.y(value)}"></line>`;
      grid += `<text class="up" x="28" y="${this.y(value) + 4}">${value}</text>`;
    }
    const last = stops[stops.length - 1];
    const ticks = [1, 10, 100, 1000].filter((count) => count < last * 0.45);
    for (const count of [...ticks, last]) {
      grid += `<text class="along" x="${this.x(count)}" y="197">${count.toLocaleString("en")}</text>`;
    }
    grid += `<text class="along" x="178" y="213">edges in each circuit</text>`;
    this.svg.querySelector(".grid").innerHTML = grid;
    const at = (values) => stops.map((count, i) => `${this.x(count).toFixed(1)} ${this.y(values[i]).toFixed(1)}`);
    this.svg.querySelector(".curves").innerHTML = curves
      .map(({ kind, values, low, high }) => {
        const band = low ? `<path class="band ${kind}" d="M${at(low).join("L")}L${at(high).reverse().join("L")}Z"></path>` : "";
        return `${band}<path class="line ${kind}" d="M${at(values).join("L")}"></path>`;
      })
      .join("");
  }

  /* Mark the stop at which the slider stands. */
  mark(stop) {
    const x = this.x(this.stops[stop]);
    const dots = this.curves
      .filter(({ kind }) => !kind.includes("other"))
      .map(({ kind, values }) => `<circle class="${kind}" cx="${x}" cy="${this.y(values[stop])}" r="3.6"></circle>`);
    this.svg.querySelector(".mark").innerHTML = `<line x1="${x}" x2="${x}" y1="10" y2="182"></line>${dots.join("")}`;
  }
};
