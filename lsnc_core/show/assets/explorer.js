// Brings every explorer on the page to life, as soon as Vega is there.
(() => {
  // panels side by side need at least this many px
  const NARROW = 620;

  // small panels do not grow beyond so many times their width: several are below each other
  const MOST = 1.8;

  const parts = spec => spec.hconcat || spec.vconcat || spec.concat || [];
  const widest = spec => Math.max(spec.width || 0, ...parts(spec).map(widest));

  // panels below each other, all of one width and in their shape
  function stack(spec, width) {
    if (spec.hconcat) {
      spec.vconcat = spec.hconcat;
      delete spec.hconcat;
    }
    if (spec.concat) spec.columns = 1;
    if (spec.width) {
      spec.height *= width / spec.width;
      spec.width = width;
    }
    for (const part of parts(spec)) stack(part, width);
    return spec;
  }

  // drawn once to see how much of the room axes, labels and legends take
  async function fit(text, drawing, room, options) {
    const most = MOST * widest(JSON.parse(text)), width = Math.min(room, most);
    const unseen = {...options, bind: document.createElement("div")};
    const trial = await window.vegaEmbed(drawing, stack(JSON.parse(text), width), unseen);
    const beside = drawing.querySelector("svg").getBoundingClientRect().width - width;
    trial.finalize();
    return stack(JSON.parse(text), Math.floor(Math.min(most, room - beside)));
  }

  // sliders through listed values show and say the value instead of its number; some can play
  function addSliders(view, controls, sliders) {
    for (const [signal, {values, pause}] of Object.entries(sliders)) {
      const input = controls.querySelector(`input[name="${signal}"]`);
      const shown = document.createElement("span");
      input.nextElementSibling.replaceWith(shown);  // Vega's own, which has the number
      const say = () => {
        const value = values[view.signal(signal)];
        input.setAttribute("aria-valuetext", value);
        shown.textContent = value;
      };
      view.addSignalListener(signal, say);
      say();
      if (pause) addPlay(view, input, signal, values.length - 1, pause);
    }
  }

  function addPlay(view, input, signal, last, pause) {
    const button = document.createElement("button");
    // who asked for less motion moves one value a press
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const reading = input.closest("figure").querySelector("output");
    let timer = null;
    const step = () => view.signal(signal, Math.min(last, view.signal(signal) + 1)).runAsync();
    const run = on => {
      clearTimeout(timer);
      timer = on ? setTimeout(next, 1000 * pause) : null;
      button.textContent = still ? "Next" : on ? "Pause" : "Play";
      // a screen reader hears where it stops, not all on the way
      reading.ariaLive = on ? "off" : null;
    };
    const next = async () => {
      await step();
      if (timer !== null) run(view.signal(signal) < last);
    };
    const start = () => {
      if (view.signal(signal) >= last) view.signal(signal, 0).runAsync();
      else if (still) step();
      if (!still) run(true);
    };
    button.type = "button";
    button.addEventListener("click", () => (timer === null ? start() : run(false)));
    run(false);
    input.closest(".vega-bind").append(button);
  }

  async function show(figure) {
    figure.dataset.shown = "true";
    const [controls, chart] = [".controls", ".chart"].map(name => figure.querySelector(name));
    const text = figure.querySelector("script").textContent;
    let spec = JSON.parse(text);
    const drawing = document.createElement("div");
    const options = {renderer: "svg", actions: false, defaultStyle: false, bind: controls};
    // one picture with one text alternative: Vega gives marks roles but, here, no names
    const picture = document.createElement("div");
    picture.role = "img";
    picture.ariaLabel = spec.description;
    drawing.ariaHidden = "true";
    picture.append(drawing);
    chart.replaceChildren(picture);
    if (chart.clientWidth < NARROW) {
      spec = await fit(text, drawing, picture.clientWidth, options);
    }
    const {view} = await window.vegaEmbed(drawing, spec, options);
    const reading = figure.querySelector("output");
    if ("reading" in view.getState().signals) {
      const say = () => { reading.textContent = view.signal("reading"); };
      view.addSignalListener("reading", say);
      say();
    }
    addSliders(view, controls, (spec.usermeta || {}).sliders || {});
    // JupyterLab would take the arrow keys of a slider for its own shortcuts
    for (const one of figure.querySelectorAll("input, select, button, [tabindex]")) {
      one.dataset.lmSuppressShortcuts = "true";
    }
    figure.vegaView = view;
  }

  function showAll() {
    if (!window.vegaEmbed) return;
    document.querySelectorAll("figure.lsnc-explorer:not([data-shown])").forEach(show);
  }

  // in a notebook, Vega comes with one explorer; the others wait for it
  if (!window.vegaEmbed) window.addEventListener("lsnc-vega", showAll);
  else window.dispatchEvent(new Event("lsnc-vega"));
  showAll();
})();
