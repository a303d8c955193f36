// Long tables get a field that leaves the rows which have what is typed in; all sort by their heads
// (sortable-tablesort, which this page loads too).
(() => {
  const filter = table => {
    const box = table.closest(".mechshift-table");
    const field = Object.assign(document.createElement("input"), { type: "search", placeholder: "Filter rows" });
    field.setAttribute("aria-label", "Filter the rows of this table");
    const told = document.createElement("span");
    told.setAttribute("role", "status");
    field.addEventListener("input", () => {
      const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      const rows = [...table.querySelectorAll("tbody tr")]; // sorting puts a new body in
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every(word => text.includes(word));
      }
      const left = rows.filter(row => !row.hidden).length;
      told.textContent = wanted.length ? `${left} of ${rows.length} rows` : "";
    });
    const line = document.createElement("p");
    line.className = "mechshift-filter";
    line.append(field, " ", told);
    box.prepend(line);
  };
  document.querySelectorAll("table.mechshift-long").forEach(filter);
})();
