// The choice of two arms. Without this script the tables of the page are complete.
for (const form of document.querySelectorAll("form.chooser")) {
  const data = JSON.parse(form.querySelector("script").textContent), step = 20;
  const more = form.querySelector(".more"), place = form.querySelector(".scroll");
  let rows = [], body = null;

  const element = (name, text, attributes) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;  // text, never markup
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    return made;
  };
  const outside = (name, text) => element(name, text, {"class": "outside", "dir": "auto"});
  const share = given => given.reduce((sum, [right]) => sum + right, 0) / given.length;

  const answers = given => {
    const cell = element("td");
    given.forEach(([right, text], index) => {
      const one = cell.appendChild(element("div", undefined, {"class": "given"})), word = right ? "right" : "wrong";
      const seed = given.length > 1 ? `, seed ${index + 1} of ${given.length}` : "";
      one.append(element("span", word + seed, {"class": word}), outside("div", text));
    });
    return cell;
  };

  const append = () => {
    for (const {benchmark, item, a, b} of rows.splice(0, step)) {
      const row = body.appendChild(element("tr")), head = row.appendChild(element("th", benchmark, {"scope": "row"}));
      head.append(element("br"), element("code", item.item));
      row.append(outside("td", item.prompt), outside("td", item.target), answers(a), answers(b));
    }
    more.hidden = rows.length === 0;
  };

  const choose = () => {
    const one = form.elements.a.value, other = form.elements.b.value, better = form.elements.better.value;
    rows = [];
    let held = 0, differing = 0;
    for (const [name, benchmark] of Object.entries(data.benchmarks)) {
      if (form.elements.benchmark.value && form.elements.benchmark.value !== name) continue;
      held += benchmark.items.length;
      differing += benchmark.differing;
      for (const item of benchmark.items) {
        const a = item.answers[one], b = item.answers[other];
        if (!a || !b) continue;
        const gap = share(a) - share(b);
        if (gap !== 0 && !(better === "a" && gap < 0) && !(better === "b" && gap > 0)) {
          rows.push({benchmark: benchmark.label, item, a, b});
        }
      }
    }
    const part = held < differing ? ` among the ${held} that this page holds of ${differing}` : "";
    form.querySelector(".hits").textContent = one === other ? "Choose two different arms."
      : `${rows.length} items${part}`;
    place.replaceChildren();
    if (rows.length) {
      const table = place.appendChild(element("table", undefined, {"class": "items"}));
      table.append(element("caption", `${data.arms[one]} against ${data.arms[other]}, item by item`));
      const head = table.appendChild(element("thead")).appendChild(element("tr"));
      for (const title of ["item", "asked", "wanted", data.arms[one], data.arms[other]]) {
        head.append(element("th", title, {"scope": "col"}));
      }
      body = table.appendChild(element("tbody"));
    }
    append();
  };
  form.addEventListener("change", choose);
  form.addEventListener("submit", event => event.preventDefault());
  more.addEventListener("click", append);
  form.hidden = false;
  choose();
}
