// Brings every explorer on the page to life, as soon as Vega is there.
(() => {
  // panels side by side need at least this many px
  const NARROW = 620;

  function stack(spec) {
    if (spec.hconcat) {
      spec.vconcat = spec.hconcat;
      delete spec.hconcat;
    }
    if (spec.concat) spec.columns = 1;
    for (const part of spec.vconcat || spec.concat || []) stack(part);
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
    if (chart.clientWidth < NARROW) stack(spec);
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
