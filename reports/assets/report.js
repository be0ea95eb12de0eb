(function () {
  "use strict";
  var root = document.documentElement;
  root.classList.add("js");

  function each(list, f) { Array.prototype.forEach.call(list, f); }

  function toggle(body, open) {
    var button = body.querySelector(".name button");
    if (!button) { return; }
    body.classList.toggle("open", open);
    button.setAttribute("aria-expanded", String(open));
    var details = body.querySelector("details");
    if (details) { details.open = open; }
  }

  function show(reference) {
    var body = document.getElementById("op-" + reference);
    if (!body) { return; }
    body.hidden = false;
    toggle(body, true);
    body.scrollIntoView({ block: "center" });
    body.classList.add("flash");
    setTimeout(function () { body.classList.remove("flash"); }, 1600);
  }

  function value(body, column, numeric) {
    var cell = body.rows[0].cells[column];
    if (!numeric) { return cell.textContent.trim(); }
    return parseFloat(cell.getAttribute("data-v"));
  }

  function sort(table, column, numeric, ascending) {
    var rows = Array.prototype.slice.call(table.tBodies).map(function (body, index) {
      return { body: body, key: value(body, column, numeric), index: index };
    });
    rows.sort(function (a, b) {
      var order = numeric ? a.key - b.key : a.key.localeCompare(b.key, "en", { numeric: true });
      return (ascending ? order : -order) || a.index - b.index;
    });
    rows.forEach(function (row) { table.appendChild(row.body); });
  }

  each(document.querySelectorAll("table.ops"), function (table) {
    var id = table.getAttribute("data-table");
    var heads = table.tHead.rows[0].cells;
    each(heads, function (head, column) {
      var numeric = head.classList.contains("num");
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.textContent = "";
      head.appendChild(button);
      if (column === 0) { head.setAttribute("aria-sort", "ascending"); }
      button.addEventListener("click", function () {
        var was = head.getAttribute("aria-sort");
        // Numbers start with the largest, except for the order of execution.
        var ascending = was ? was === "descending" : !numeric || column === 0;
        each(heads, function (other) { other.removeAttribute("aria-sort"); });
        head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
        sort(table, column, numeric, ascending);
      });
    });

    each(table.tBodies, function (body) {
      if (!body.querySelector("tr.more")) { return; }
      var name = body.querySelector(".name");
      var button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-expanded", "false");
      while (name.firstChild) { button.appendChild(name.firstChild); }
      name.appendChild(button);
      button.addEventListener("click", function () { toggle(body, !body.classList.contains("open")); });
    });

    var text = document.querySelector('input[type=search][data-for="' + id + '"]');
    var box = document.querySelector('input[type=checkbox][data-for="' + id + '"]');
    var choices = document.querySelectorAll('select[data-for="' + id + '"]');
    var said = document.querySelector('output[data-for="' + id + '"]');
    function filter() {
      var words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      var shown = 0, time = 0, all = 0;
      each(table.tBodies, function (body) {
        var cells = body.rows[0].cells;
        var hay = (cells[1].textContent + " " + cells[2].textContent).toLowerCase();
        var keep = words.every(function (word) { return hay.indexOf(word) >= 0; });
        each(choices, function (choice) {
          if (choice.value && body.getAttribute("data-" + choice.getAttribute("data-field")) !== choice.value) { keep = false; }
        });
        if (box && box.checked && body.hasAttribute("data-free")) { keep = false; }
        var t = Math.max(0, value(body, 3, true));
        all += t;
        if (keep) { shown += 1; time += t; }
        body.hidden = !keep;
      });
      var share = all > 0 ? (100 * time / all).toFixed(1) + "\u00a0% of the time" : "";
      said.textContent = shown + " of " + table.tBodies.length + " layers" + (share ? ", " + share : "");
    }
    text.addEventListener("input", filter);
    if (box) { box.addEventListener("change", filter); }
    each(choices, function (choice) { choice.addEventListener("change", filter); });
    filter();
  });

  each(document.querySelectorAll("svg.plot"), function (plot) {
    plot.addEventListener("click", function (event) {
      var op = event.target.closest("[data-op]");
      if (op) { show(op.getAttribute("data-op")); }
    });
  });
})();
