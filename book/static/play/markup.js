/* The page's parts: what is made once, and how each is changed. */
"use strict";

mechshiftPlay.markup = (home) => {
  const { escape } = mechshiftPlay;
  const select = (name, words) => `<label class="choice ${name}">${words}<select name="${name}"></select></label>`;
  const radios = (name, legend, values) => `<fieldset class="choice radios"><legend>${legend}</legend>${values
    .map(([value, words]) => `<label><input type="radio" name="${name}" value="${value}"><span>${words}</span></label>`)
    .join("")}</fieldset>`;
  const model = (side) => `<section class="model ${side}" aria-label="The model on the ${side}"><h2></h2><p class="note how"></p>
    <p class="canvas"></p><p class="final"></p><div class="places"></div><p class="note took"></p></section>`;
  home.innerHTML = `
  <form class="controls" aria-label="What is asked">
    ${select("pair", "Pair")}${select("training", "Training")}${select("task", "Prompts")}
    <label class="choice example">Example<input type="number" name="example" min="1" step="1"></label>
    <label class="choice wide">Prompt<input type="text" name="prompt" autocomplete="off" spellcheck="false"></label>
    <label class="choice wide after">Text behind the answer<input type="text" name="after" autocomplete="off" spellcheck="false"></label>
    <label class="choice wide">Corrupted prompt, as long<input type="text" name="corrupted" autocomplete="off" spellcheck="false"></label>
    <label class="choice n">Tokens to fill<input type="number" name="n" min="1" step="1"></label>
    ${select("order", "The MDM fills first")}${select("seed", "Random order")}
    <label class="choice steps">In steps<input type="number" name="steps" min="1" step="1"></label>
    ${select("left", "On the left")}
    <label class="choice stage"><b class="value" aria-hidden="true"></b>On the right, along the post-training<input type="range" name="right" min="0" step="1"></label>
  </form>
  <p class="say" role="status" aria-live="polite"></p>
  <div class="board">
    <div class="models">
      <div class="walk"><label><b class="value" aria-hidden="true"></b>Step<input type="range" name="step" min="0" step="1"></label>
        <button type="button" data-do="play" aria-pressed="false">▶ Play</button></div>
      <div class="two">${model("left")}${model("right")}</div>
    </div>
    <div class="side">
      <section class="changes"><h2>Change both models</h2>
        ${radios("mode", "A click", [["node", "ablates a node"], ["edge", "begins an edge"]])}
        ${radios("instead", "In its place stands", [["zero", "zero"], ["corrupted", "the corrupted run"]])}
        <label class="check"><input type="checkbox" name="cut"> Nobody looks at masks that wait</label>
        <p class="note hint"></p>
        <div class="grid"></div>
        <ul class="cuts" aria-label="Edges that are cut"></ul>
        <button type="button" data-do="clear">Undo all changes</button>
        <button type="button" data-do="link">Copy a link to this view</button></section>
    </div>
  </div>
  <details class="cues"><summary>One cue against another</summary>
    <div class="controls"><label class="choice">Prompt<select name="cue"></select></label></div><div class="table"></div>
    <p class="note">In these Countdowns, the number that is left of the list isn't the one that the target needs. The changes above hold here, too; what is ablated or cut carries zero here.</p></details>`;
  const find = (selector) => home.querySelector(selector);
  const field = (name) => home.querySelector(`[name="${name}"]`);
  find("form").addEventListener("submit", (event) => event.preventDefault());
  const ORDERS = { "left-to-right": "the leftmost", random: "any, at random", maskgit_plus: "the surest (maskgit_plus)", topk_margin: "the clearest (topk_margin)", entropy: "the least open (entropy)" };
  let options = null;

  function fill(name, values, chosen, words) {
    const shown = values.map((value) => `<option value="${escape(value)}">${escape(words(value))}</option>`).join("");
    if (field(name).innerHTML !== shown) field(name).innerHTML = shown;
    field(name).value = chosen;
  }
  const show = (name, is) => (field(name).closest("label").hidden = !is);
  /* A text that is being typed isn't overwritten. */
  const put = (name, value) => {
    if (document.activeElement !== field(name)) field(name).value = value;
  };
  const check = (name, value) => home.querySelectorAll(`[name="${name}"]`).forEach((one) => (one.checked = one.value === value));

  return {
    find,
    order: (name) => ORDERS[name] ?? name,

    /* Controls for what can be chosen, at what is chosen. */
    controls(chosen, label) {
      ({ options } = chosen);
      const { about, pair } = chosen;
      const task = (name) => (name === "own" ? "your own" : name === "infilling-native" ? "Infilling, in its sentence" : label(name));
      fill("pair", about.pairs.map((one) => one.name), pair.name, (name) => about.pairs.find((one) => one.name === name).title);
      fill("training", options.trainings, chosen.training, (name) => name);
      fill("task", options.tasks, chosen.task, task);
      fill("order", about.orders, chosen.order, (name) => ORDERS[name] ?? label(name));
      fill("seed", Array.from({ length: about.seeds }, (_, i) => String(i)), String(chosen.seed), (name) => `seed ${name}`);
      fill("left", options.left, chosen.left, label);
      fill("cue", options.cues, chosen.cue ?? options.cues[0], (number) => {
        const { kind, text } = pair.cues[number - 1];
        return `${kind}: ${text}`;
      });
      field("example").max = options.count;
      put("example", chosen.number);
      for (const name of ["prompt", "after", "corrupted"]) put(name, chosen[name]);
      field("n").max = about.longest;
      put("n", chosen.n);
      field("steps").max = chosen.n;
      put("steps", chosen.steps);
      show("example", Boolean(chosen.example));
      show("n", !chosen.example);
      show("after", Boolean(chosen.after) || !chosen.example);
      show("seed", chosen.order === "random");
      find(".cues").hidden = !options.cues.length;
      find(".cues").open = chosen.cue !== null;
      field("right").max = options.stages.length - 1;
      field("right").value = options.stages.indexOf(chosen.right);
      field("right").setAttribute("aria-valuetext", label(chosen.right));
      find(".stage .value").textContent = label(chosen.right);
      field("step").max = chosen.n;
      field("step").value = chosen.step;
      field("step").setAttribute("aria-valuetext", `${chosen.step} of ${chosen.n}`);
      find(".walk .value").textContent = `${chosen.step} of ${chosen.n}`;
      field("cut").checked = chosen.cut;
      check("instead", chosen.instead);
    },

    /* The grid of nodes, the edges that are cut, and what a click does. */
    changes(content, cuts, mode, hint) {
      const focused = document.activeElement?.dataset ?? {};
      find(".grid").innerHTML = content;
      const again = focused.edge ? `[data-edge="${CSS.escape(focused.edge)}"]` : focused.node ? `[data-node="${focused.node}"]` : null;
      if (again) find(`.grid ${again}`)?.focus();
      find(".cuts").innerHTML = cuts.map((edge) => `<li><button type="button" data-edge="${escape(edge)}"><span class="visually-hidden">Mend </span>${escape(mechshiftPlay.nodes.shown(edge))} <span aria-hidden="true">×</span></button></li>`).join("");
      check("mode", mode);
      find(".hint").textContent = hint;
    },

    /* One model's section. */
    model(side, { title, how, canvas, final, places, took, color }) {
      const section = find(`.model.${side}`);
      section.style.setProperty("--role", color ?? "currentColor");
      section.querySelector("h2").textContent = title;
      section.querySelector(".how").textContent = how;
      section.querySelector(".canvas").innerHTML = canvas;
      section.querySelector(".final").innerHTML = final;
      section.querySelector(".places").innerHTML = places;
      section.querySelector(".took").textContent = took;
    },

    cue(content) {
      find(".cues .table").innerHTML = content;
    },

    busy(is) {
      home.setAttribute("aria-busy", is);
      if (!is) return;
      delete home.dataset.failed;
      // At first there is nothing else to see.
      const said = find(".say");
      if (!said.textContent) said.textContent = "The models are loading …";
    },

    say(words) {
      find(".say").classList.remove("fail");
      find(".say").textContent = words;
    },

    fail(error) {
      home.setAttribute("aria-busy", false);
      home.dataset.failed = error.message;
      find(".say").classList.add("fail");
      find(".say").textContent = `This can't be run: ${error.message}.`;
    },

    playing(is) {
      const button = find('[data-do="play"]');
      button.setAttribute("aria-pressed", is);
      button.textContent = is ? "❚❚ Pause" : "▶ Play";
    },

    /* Tell what the reader does. */
    listen({ choose, mode, node, edge, cues, play, clear }) {
      const meant = ({ name, value, checked }) => (name === "right" ? options.stages[value] : name === "cut" ? (checked ? "waiting" : null) : value);
      // A text counts as a prompt of one's own.
      const typed = () => ({ task: "own", ...Object.fromEntries(["prompt", "after", "corrupted"].map((name) => [name, field(name).value])), n: field("n").value });
      home.addEventListener("input", ({ target }) => {
        if (["prompt", "after", "corrupted", "n"].includes(target.name)) choose(typed());
        else if (target.name === "mode") mode(target.value);
        else if (target.name) choose({ [target.name]: meant(target) });
      });
      find(".cues").addEventListener("toggle", ({ target }) => cues(target.open ? field("cue").value : null));
      home.addEventListener("click", ({ target }) => {
        const button = target.closest("button");
        if (!button) return;
        if (button.dataset.edge) edge(button.dataset.edge);
        else if (button.dataset.node) node(button.dataset.node);
        else if (button.dataset.do === "play") play();
        else if (button.dataset.do === "clear") clear();
        else if (button.dataset.do === "link") {
          const done = () => (button.textContent = "Copied");
          navigator.clipboard?.writeText(location.href).then(done, () => prompt("The link to this view:", location.href));
        }
      });
    },
  };
};
