// Charts are drawn where the reader opens them; long tables can be sorted and filtered. Without this script the page is complete.
document.documentElement.classList.add("scripted");

for (const details of document.querySelectorAll("details.explore")) {
  details.addEventListener("toggle", () => {
    const place = details.querySelector(".chart");
    if (!details.open || place.dataset.drawn) return;
    place.dataset.drawn = "begun";
    const spec = JSON.parse(details.querySelector("script").textContent), bind = details.querySelector(".choice");
    // ast: expressions are interpreted, not compiled, so that the page's policy holds.
    const options = { bind, renderer: "svg", actions: false, ast: true, logLevel: 1, tooltip: { theme: "custom" } };
    window.vegaEmbed(place, spec, options).then(() => { place.dataset.drawn = "yes"; });
  });
}

for (const table of document.querySelectorAll("table")) {
  const rows = table.tBodies[0].rows.length;
  if (rows < 4) continue;
  new window.DataTable(table, {
    paging: false, info: false, order: [], autoWidth: false, searching: rows > 11,
    layout: { topStart: rows > 11 ? "search" : null, topEnd: null, bottomStart: null, bottomEnd: null },
    language: { search: "Filter", zeroRecords: "No row fits." },
  });
  table.tHead.addEventListener("keydown", event => {  // DataTables hears Enter alone; a button is pressed by Space too
    if (event.key !== " " || !event.target.matches("[role=button]")) return;
    event.preventDefault();
    event.target.click();
  });
}
