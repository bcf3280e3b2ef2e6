// Brings every explorer on the page to life, as soon as Vega is there.
(() => {
  // panels side by side need at least this many px
  const NARROW = 620;

  // beside a panel of such a page: its axis
  const BESIDE = 62;

  function stack(spec, room) {
    if (spec.hconcat) {
      spec.vconcat = spec.hconcat;
      delete spec.hconcat;
    }
    if (spec.concat) spec.columns = 1;
    if (spec.width > room) {
      spec.height *= room / spec.width;
      spec.width = room;
    }
    for (const part of spec.vconcat || spec.concat || []) stack(part, room);
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
      if (view.signal(signal) >= last) view.signal(signal, 0);
      if (still) step();
      else run(true);
    };
    button.type = "button";
    button.addEventListener("click", () => (timer === null ? start() : run(false)));
    run(false);
    input.closest(".vega-bind").append(button);
  }

  // a slider over places in a list shows what stands there, not the number of the place
  function label(controls, view, labels) {
    for (const [signal, texts] of Object.entries(labels)) {
      const slider = controls.querySelector(`input[name="${signal}"]`);
      const say = () => {
        slider.nextElementSibling.textContent = texts[slider.value];
        slider.setAttribute("aria-valuetext", texts[slider.value]);
      };
      view.addSignalListener(signal, say);
      say();
    }
  }

  async function show(figure) {
    figure.dataset.shown = "true";
    const [controls, chart] = [".controls", ".chart"].map(name => figure.querySelector(name));
    const spec = JSON.parse(figure.querySelector("script").textContent);
    if (chart.clientWidth < NARROW) stack(spec, chart.clientWidth - BESIDE);
    const drawing = document.createElement("div");
    const options = {renderer: "svg", actions: false, defaultStyle: false, bind: controls};
    chart.replaceChildren(drawing);
    const {view} = await window.vegaEmbed(drawing, spec, options);
    label(controls, view, (spec.usermeta || {}).labels || {});
    const reading = figure.querySelector("output");
    if ("reading" in view.getState().signals) {
      const say = () => { reading.textContent = view.signal("reading"); };
      view.addSignalListener("reading", say);
      say();
    }
    addSliders(view, controls, (spec.usermeta || {}).sliders || {});
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
