// SPDX-License-Identifier: Apache-2.0
// Cells of the heat maps tell their figures when pointed at, tapped or walked over with the arrow keys.
for (const map of document.querySelectorAll(".map")) {
  const readout = map.querySelector(".readout");
  const tell = (cell) => {
    readout.textContent = cell.querySelector(".says").textContent;
    map.querySelector(".told")?.classList.remove("told");
    cell.classList.add("told");
  };
  for (const table of map.querySelectorAll("table")) {
    const rows = [...table.tBodies[0].rows].map((row) => [...row.querySelectorAll("td")]);
    const cells = rows.flat().filter((cell) => cell.querySelector(".says"));
    cells.forEach((cell, at) => { cell.tabIndex = at ? -1 : 0; });
    const move = (from, down, right) => {
      let y = rows.findIndex((row) => row.includes(from)), x = rows[y].indexOf(from);
      do { y += down; x += right; } while (rows[y]?.[x] && !rows[y][x].querySelector(".says"));
      const to = rows[y]?.[x];
      if (to) { cells.forEach((cell) => { cell.tabIndex = -1; }); to.tabIndex = 0; to.focus(); }
    };
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    table.addEventListener("keydown", (event) => {
      const cell = event.target.closest("td");
      if (cell && steps[event.key]) { event.preventDefault(); move(cell, ...steps[event.key]); }
    });
    for (const kind of ["mouseover", "focusin", "click"]) {
      table.addEventListener(kind, (event) => {
        const cell = event.target.closest("td");
        if (cell?.querySelector(".says")) tell(cell);
      });
    }
  }
}
