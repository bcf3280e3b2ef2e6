// Filters and sorting of the page of all claims; without this script it is a plain list.
(function () {
  "use strict";
  var list = document.getElementById("claims");
  if (!list) return;
  var form = document.getElementById("claim-filters");
  var head = document.getElementById("claim-head");
  var status = document.getElementById("claims-shown");
  var items = Array.prototype.slice.call(list.children);
  var texts = items.map(function (item) { return item.textContent.toLowerCase(); });
  [form, head, status].forEach(function (part) { part.hidden = false; });

  function matches(answer) {
    var sets = form.elements.sets.value, premise = form.elements.premise.value;
    return (!sets || answer.dataset.sets.split(" ").indexOf(sets) >= 0) &&
      (!premise || answer.dataset.premise === premise);
  }

  function filter() {
    var words = form.elements.text.value.toLowerCase().split(/\s+/), shown = 0;
    items.forEach(function (item, number) {
      var any = false;
      item.querySelectorAll(".answer").forEach(function (answer) {
        answer.hidden = !matches(answer);
        any = any || !answer.hidden;
      });
      item.hidden = !any ||
        !!form.elements.paper.value && item.dataset.paper !== form.elements.paper.value ||
        !!form.elements.outcome.value && item.dataset.outcome !== form.elements.outcome.value ||
        !words.every(function (word) { return texts[number].indexOf(word) >= 0; });
      shown += !item.hidden;
    });
    status.textContent = shown + " of " + items.length + " claims";
  }

  function value(item, key) {
    if (key === "name") return item.dataset.name;
    var text = item.dataset[key === "outcome" ? "rank" : key];
    return text === "" ? -Infinity : text === "inf" ? Infinity : text === "-inf" ? -1e300 : +text;
  }

  function sort(button) {
    var key = button.dataset.key;
    var down = button.dataset.order === "up";
    head.querySelectorAll("button").forEach(function (other) {
      delete other.dataset.order;
      other.removeAttribute("aria-pressed");
    });
    button.dataset.order = down ? "down" : "up";
    button.setAttribute("aria-pressed", "true");
    var sorted = items.slice().sort(function (one, two) {
      var a = value(one, key), b = value(two, key);
      var order = a < b ? -1 : a > b ? 1 : one.dataset.number - two.dataset.number;
      return down ? -order : order;
    });
    sorted.forEach(function (item) { list.appendChild(item); });
  }

  // an address may name a claim, "#C1", the rule of counting, or filters, "#paper=...&outcome=..."
  function follow() {
    if (location.hash.indexOf("=") > 0) {
      form.reset();
      new URLSearchParams(location.hash.slice(1)).forEach(function (text, name) {
        if (form.elements[name]) form.elements[name].value = text;
      });
      filter();
      return;
    }
    var item = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (item && item.tagName === "DETAILS") item.open = true;
    if (!item || item.parentNode !== list) return;
    if (item.hidden) { form.reset(); filter(); }
    item.firstElementChild.open = true;
    item.scrollIntoView();
  }

  form.addEventListener("input", filter);
  form.addEventListener("submit", function (event) { event.preventDefault(); });
  form.addEventListener("reset", function () { setTimeout(filter); });
  head.addEventListener("click", function (event) {
    if (event.target.dataset.key) sort(event.target);
  });
  window.addEventListener("hashchange", follow);
  filter();
  follow();
})();
