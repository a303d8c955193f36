/* The page's parts: what is made once, and how each is changed. */
"use strict";

mechshiftExplorer.markup = (home) => {
  const select = (name, words) => `<label class="choice ${name}">${words}<select name="${name}"></select></label>`;
  home.innerHTML = `
  <form class="controls" aria-label="What is shown">
    ${select("pair", "Pair")}${select("task", "Task")}${select("read", "Answer position")}${select("estimator", "Scores by")}
    ${select("training", "Training")}${select("a", "Circuit of")}${select("b", "against")}
    <fieldset class="choice view"><legend>Drawn</legend>
      <label><input type="radio" name="view" value="over"><span>over each other</span></label>
      <label><input type="radio" name="view" value="beside"><span>side by side</span></label></fieldset>
    <div class="choice budget"><output></output><label for="explorer-stop">Edges in each circuit</label><input type="range" id="explorer-stop" name="stop" min="0" step="1"></div>
    <div class="choice steps"><div><output></output><label for="explorer-step">Step of the post-training</label><input type="range" id="explorer-step" name="step" min="0" step="1"></div>
      <button type="button" data-do="play" aria-pressed="false">▶ Play</button></div>
  </form>
  <div class="tip" aria-hidden="true" hidden></div>
  <p class="say" role="status" aria-live="polite"></p>
  <div class="board">
    <div class="pictures">
      <ul class="legend"></ul>
      <div class="two"><figure><figcaption></figcaption><div class="diagram"></div></figure>
      <figure hidden><figcaption></figcaption><div class="diagram"></div></figure></div>
      <p class="note keys">Hover or tap an edge or a node; click to keep it. With the keyboard: tab to the diagram, arrow keys go from edge to edge, the strongest first, Escape lets go.</p>
    </div>
    <div class="side">
      <section class="numbers"><h2>Jaccard index</h2><p class="note about"></p><div class="chart"></div><div class="readout"></div></section>
      <section class="picked" hidden></section>
      <section class="take"><h2>Take it with you</h2>
        <button type="button" data-take="csv">CSV of the edges</button><button type="button" data-take="first">JSON</button>
        <button type="button" data-take="second">JSON</button><button type="button" data-take="svg">SVG</button>
        <button type="button" data-do="link">Copy a link to this view</button>
        <p class="note">JSON is a graph as EAP-IG writes it, with the score of every edge that is here.</p></section>
    </div>
  </div>
  <details class="table"><summary>These edges as a table</summary><div></div></details>`;
  const find = (selector) => home.querySelector(selector);
  const form = find("form");
  form.addEventListener("submit", (event) => event.preventDefault());
  const field = (name) => form.elements[name];
  const READS = { all: "all of them" };
  let steps = [];
  let stops = [];

  function fill(name, values, chosen, words) {
    const shown = values.map((value) => `<option value="${value}">${words(value)}</option>`).join("");
    if (field(name).innerHTML !== shown) field(name).innerHTML = shown;
    field(name).value = chosen;
    field(name).closest(".choice").classList.toggle("single", values.length < 2);
  }

  return {
    diagrams: home.querySelectorAll(".diagram"),
    chart: find(".chart"),

    /* Controls for what can be chosen, at what is chosen. */
    controls(chosen, label) {
      const { options, pair } = chosen;
      const circuit = (name) => {
        const [role, training] = name.split(":");
        return label(role) + (training ? `, training ${training}` : "");
      };
      fill("pair", chosen.pairs.map((one) => one.name), pair.name, (name) => chosen.pairs.find((one) => one.name === name).title);
      fill("task", options.tasks, chosen.task, label);
      fill("read", options.reads, chosen.read, (name) => READS[name] ?? `token ${Number(name) + 1}`);
      find(".read").hidden = options.reads.length < 2;
      const along = (name) => pair.sources.some((one) => one.estimator === name && Object.values(one.trainings)[0].some((circuit) => circuit.includes("@")));
      fill("estimator", options.estimators, chosen.estimator, (name) => label(name) + (along(name) ? ", step by step" : ""));
      fill("training", options.trainings, chosen.training, (name) => name);
      fill("a", options.roles, chosen.first, circuit);
      fill("b", options.circuits.filter((name) => name !== chosen.first), chosen.second, circuit);
      for (const one of field("view")) one.checked = one.value === chosen.view;
      ({ stops } = pair);
      ({ steps } = options);
      field("stop").max = stops.length - 1;
      field("stop").value = chosen.stop;
      field("stop").setAttribute("aria-valuetext", `${stops[chosen.stop]} edges`);
      find(".steps").hidden = !chosen.along;
      if (chosen.along) {
        field("step").max = steps.length - 1;
        field("step").value = steps.indexOf(chosen.step);
        field("step").setAttribute("aria-valuetext", `step ${chosen.step}`);
        find(".steps output").textContent = chosen.step.toLocaleString("en");
      }
    },

    busy(is) {
      home.setAttribute("aria-busy", is);
    },

    fail(error) {
      home.setAttribute("aria-busy", false);
      find(".say").textContent = `This can't be shown: ${error.message}.`;
      home.dataset.failed = error.message;
    },

    say(words) {
      find(".say").textContent = words;
    },

    /* One diagram, or two beside each other, with their models' names. */
    two(is, names) {
      const figures = home.querySelectorAll(".two figure");
      figures[1].hidden = !is;
      find(".two").classList.toggle("apart", is);
      figures.forEach((figure, i) => {
        const caption = figure.querySelector("figcaption");
        caption.hidden = !is;
        caption.textContent = names[i];
      });
      find('[data-take="first"]').textContent = `JSON: ${names[0]}`;
      find('[data-take="second"]').textContent = `JSON: ${names[1]}`;
    },

    legend(kinds, counts, left) {
      const items = ["first", "second", "both"].map((kind) => `<li><span class="swatch ${kind}"></span>${counts[kind].toLocaleString("en")} ${kinds[kind]}</li>`);
      if (left > 0) items.push(`<li>${left.toLocaleString("en")} weaker ones aren't drawn</li>`);
      find(".legend").innerHTML = items.join("");
    },

    readout(table, count, share, n) {
      find(".budget output").textContent = `${count.toLocaleString("en")} (${(100 * share).toPrecision(2)} % of all)`;
      find(".about").textContent = `of circuits of ${count.toLocaleString("en")} edges, over ${n} examples`;
      find(".readout").innerHTML = table;
    },

    /* What is picked, or pointed at: the latter isn't to be read out. */
    picked(content, kept) {
      const section = find(".picked");
      section.hidden = !content;
      section.classList.toggle("kept", kept);
      section.innerHTML = content;
    },

    /* Lines beside the pointer, the first the edge's name; none where there are none. */
    tip(lines, event) {
      const tip = find(".tip");
      tip.hidden = !lines;
      if (!lines) return;
      tip.innerHTML = lines.map((line) => `<div>${mechshiftExplorer.panel.escape(line)}</div>`).join("");
      const box = home.getBoundingClientRect();
      const left = Math.min(event.clientX - box.left + 14, box.width - tip.offsetWidth);
      tip.style.transform = `translate(${left}px, ${event.clientY - box.top + 16}px)`;
    },

    table: {
      get open() {
        return find("details.table").open;
      },
      fill(content) {
        find("details.table div").innerHTML = content;
      },
    },

    playing(is) {
      const button = find('[data-do="play"]');
      button.setAttribute("aria-pressed", is);
      button.textContent = is ? "❚❚ Pause" : "▶ Play";
    },

    /* Tell what the reader does. */
    listen({ choose, play, fillTable, pickEdge, take }) {
      form.addEventListener("input", ({ target }) => {
        const [name, value] = [target.name, target.value];
        if (name === "stop") choose({ k: stops[Number(value)] });
        else if (name === "step") choose({ step: steps[Number(value)] });
        else choose({ [name]: value });
      });
      find("details.table").addEventListener("toggle", () => fillTable());
      home.addEventListener("click", ({ target }) => {
        const button = target.closest("button");
        if (!button) return;
        if (button.dataset.edge) pickEdge(Number(button.dataset.edge));
        else if (button.dataset.take) take(button.dataset.take);
        else if (button.dataset.do === "play") play();
        else if (button.dataset.do === "link") {
          const done = () => (button.textContent = "Copied");
          navigator.clipboard?.writeText(location.href).then(done, () => prompt("The link to this view:", location.href));
        }
      });
    },
  };
};
