// What the theme leaves out for keyboards, screen readers and speech control.
(() => {
  // What scrolls sideways inside a page can be reached and moved with the keyboard, and fades where
  // there is more of it.
  const more = box => box.classList.toggle("mechshift-more", box.scrollWidth - box.clientWidth - box.scrollLeft > 2);
  const look = box => {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
    more(box);
  };
  const reach = () => {
    const seen = new ResizeObserver(all => all.forEach(one => look(one.target))); // folds and tabs, too
    for (const box of document.querySelectorAll(".bd-article .cell_output, .bd-article table, .bd-article div.math, .bd-article [style*='overflow-x']")) {
      box.addEventListener("scroll", () => more(box), { passive: true });
      seen.observe(box);
    }
  };
  // A button's name has in it what is written on it, icons included.
  const name = () => {
    document.querySelectorAll(".search-button-field").forEach(button => button.removeAttribute("aria-label"));
    for (const button of document.querySelectorAll(".theme-switch-button")) {
      button.setAttribute("aria-label", "Color mode: Light, Dark or System Settings");
    }
  };
  // What folds a pair's chapters away says whose they are.
  const fold = () => {
    for (const summary of document.querySelectorAll("summary:has(> .toctree-toggle)")) {
      const pair = summary.closest("li").querySelector("a").textContent.trim();
      summary.setAttribute("aria-label", `Chapters of ${pair}`);
    }
  };
  // A link to the code of a figure, or to the provenance, unfolds what it leads to.
  const unfold = () => {
    const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!place) return;
    const code = place.id.startsWith("code-of-") && place.closest(".cell");
    const input = code && code.querySelector("details");
    if (input) { input.open = true; code.scrollIntoView(); }
    if (place.id !== "provenance") return;
    const note = document.querySelector(".admonition.dropdown.toggle-hidden .toggle-button");
    if (note) note.click();
    place.scrollIntoView();
  };
  addEventListener("load", () => { reach(); name(); fold(); unfold(); });
  addEventListener("hashchange", unfold);
})();
