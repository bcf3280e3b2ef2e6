// Two networks that train in the page, by cross-entropy (CE) and by label smoothing (LS).
//
// They are one multilayer perceptron from one start, see the same batches and differ in their
// targets. A classic script without a library. It serves the copy that it stands in, so a page may
// have several. The copy's element carries the trainer as `trainer`, for tests.
(() => {
  "use strict";

  // A linear layer: W is outputs x inputs, row by row; v are the velocities of SGD, g gradients.
  class Layer {
    constructor(inputs, outputs, relu, capacity) {
      Object.assign(this, { inputs, outputs, relu });
      const zeros = size => new Float64Array(size);
      const parameter = size => ({ w: zeros(size), g: zeros(size), v: zeros(size) });
      [this.W, this.b] = [parameter(inputs * outputs), parameter(outputs)];
      this.out = zeros(capacity * outputs);
      this.slope = zeros(capacity * outputs); // of the loss, by what the layer gives before a ReLU
    }
  }

  class Network {
    constructor(widths, capacity) {
      this.layers = [];
      for (let l = 1; l < widths.length; l++) {
        const relu = l < widths.length - 2; // the features and the logits are linear
        this.layers.push(new Layer(widths[l - 1], widths[l], relu, capacity));
      }
      this.parameters = this.layers.flatMap(layer => [layer.W, layer.b]);
      this.last = this.layers[this.layers.length - 1];
      this.features = this.layers[this.layers.length - 2];
    }

    // The numbers of every W and b in turn, as torch orders them.
    start(weights) {
      this.parameters.forEach(({ w }, i) => w.set(weights[i]));
      this.parameters.forEach(({ v }) => v.fill(0));
    }

    // What each layer gives for these rows of the images, into `out`.
    forward(images, rows) {
      let input = images;
      this.layers.forEach((layer, l) => {
        const { inputs, outputs, relu, out } = layer, W = layer.W.w, b = layer.b.w;
        for (let n = 0; n < rows.length; n++) {
          const from = (l ? n : rows[n]) * inputs;
          for (let o = 0; o < outputs; o++) {
            let even = b[o], odd = 0; // two sums, for one addition waits for the other
            for (let i = from, w = o * inputs; i < from + inputs; i += 2, w += 2) {
              even += W[w] * input[i];
              odd += W[w + 1] * input[i + 1];
            }
            out[n * outputs + o] = relu ? Math.max(0, even + odd) : even + odd;
          }
        }
        input = out;
      });
    }

    // The gradients of the mean loss over these rows, after `forward`: of the logits, softmax minus
    // the smoothed label over the size of the batch.
    backward(images, rows, labels, delta) {
      const { outputs: K, out: logits, slope: first } = this.last;
      for (let n = 0; n < rows.length; n++) {
        const all = logSumExp(logits, n * K, K);
        for (let k = 0; k < K; k++) {
          const q = Math.exp(logits[n * K + k] - all);
          first[n * K + k] = (q - smoothed(labels[rows[n]], k, K, delta)) / rows.length;
        }
      }
      for (let l = this.layers.length - 1; l >= 0; l--) {
        const { inputs, outputs, W, b, slope } = this.layers[l], below = this.layers[l - 1];
        const input = below ? below.out : images;
        W.g.fill(0);
        b.g.fill(0);
        if (below) below.slope.fill(0, 0, rows.length * inputs);
        for (let n = 0; n < rows.length; n++) {
          const from = (below ? n : rows[n]) * inputs;
          for (let o = 0; o < outputs; o++) {
            const g = slope[n * outputs + o], at = o * inputs;
            if (g === 0) continue; // a ReLU that is off
            b.g[o] += g;
            for (let i = 0; i < inputs; i++) W.g[at + i] += g * input[from + i];
            if (!below) continue;
            for (let i = 0; i < inputs; i++) {
              if (!below.relu || input[from + i] > 0) below.slope[from + i] += g * W.w[at + i];
            }
          }
        }
      }
    }

    // SGD: v <- momentum v + gradient + weight decay w, w <- w - lr v.
    update(lr, momentum, decay) {
      for (const { w, g, v } of this.parameters) {
        for (let i = 0; i < w.length; i++) {
          v[i] = momentum * v[i] + g[i] + decay * w[i];
          w[i] -= lr * v[i];
        }
      }
    }
  }

  const smoothed = (label, k, K, delta) => (label === k ? 1 - delta : 0) + delta / K;

  const logSumExp = (z, from, K) => {
    let top = -Infinity, sum = 0;
    for (let k = from; k < from + K; k++) top = Math.max(top, z[k]);
    for (let k = from; k < from + K; k++) sum += Math.exp(z[k] - top);
    return top + Math.log(sum);
  };

  // Mean cross-entropy of the first `count` rows of logits against smoothed labels, in nats.
  const meanLoss = (logits, labels, count, K, delta) => {
    let loss = 0;
    for (let n = 0; n < count; n++) {
      const all = logSumExp(logits, n * K, K);
      for (let k = 0; k < K; k++) {
        loss += smoothed(labels[n], k, K, delta) * (all - logits[n * K + k]) / count;
      }
    }
    return loss;
  };

  // Accuracy, and ECE over 15 bins of equal width, of the rows from `first` to `end`.
  const calibrate = (logits, labels, first, end, K) => {
    const bins = 15, gaps = new Float64Array(bins);
    let hits = 0;
    for (let n = first; n < end; n++) {
      let best = 0;
      for (let k = 1; k < K; k++) if (logits[n * K + k] > logits[n * K + best]) best = k;
      const confidence = Math.exp(logits[n * K + best] - logSumExp(logits, n * K, K));
      const hit = Number(best === labels[n]);
      let bin = 0; // a confidence on an edge belongs to the bin below it
      while (bin < bins - 1 && confidence > (bin + 1) / bins) bin++;
      gaps[bin] += hit - confidence;
      hits += hit;
    }
    const gap = gaps.reduce((sum, one) => sum + Math.abs(one), 0);
    return { accuracy: hits / (end - first), ece: gap / (end - first) };
  };

  // Class means of two-dimensional features, K rows.
  const classMeans = (features, labels, count, K) => {
    const means = new Float64Array(2 * K), sizes = new Float64Array(K);
    for (let n = 0; n < count; n++) {
      sizes[labels[n]]++;
      for (const d of [0, 1]) means[2 * labels[n] + d] += features[2 * n + d];
    }
    return means.map((sum, i) => sum / sizes[i >> 1]);
  };

  // The mean of x x, x y and y y over rows (x, y).
  const scatter = rows => [[0, 0], [0, 1], [1, 1]].map(([d, e]) => {
    let sum = 0;
    for (let n = 0; n < rows.length; n += 2) sum += rows[n + d] * rows[n + e];
    return 2 * sum / rows.length;
  });

  const norm = numbers => Math.sqrt(numbers.reduce((sum, x) => sum + x * x, 0));

  // NC1 to NC3 of Guo eq. 4 to 6, of the first `count` rows of two-dimensional features.
  const collapse = (features, labels, count, K, W) => {
    const means = classMeans(features, labels, count, K), centre = [0, 0];
    means.forEach((x, i) => { centre[i % 2] += x / K; });
    const H = means.map((x, i) => x - centre[i % 2]); // K x 2
    const mean = i => means[2 * labels[i >> 1] + i % 2]; // of number i of the features
    const offsets = features.slice(0, 2 * count).map((x, i) => x - mean(i));
    const [xx, xy, yy] = scatter(offsets), [XX, XY, YY] = scatter(H); // within, between
    const trace = (xx * YY - 2 * xy * XY + yy * XX) / (XX * YY - XY ** 2);
    const products = Float64Array.from({ length: K * K }, (_, i) => {
      const [k, j] = [Math.floor(i / K), i % K];
      return W[2 * k] * H[2 * j] + W[2 * k + 1] * H[2 * j + 1];
    });
    const size = norm(products), [sizeW, sizeH] = [norm(W), norm(H)];
    const simplex = i => ((i % K === Math.floor(i / K) ? 1 : 0) - 1 / K) / Math.sqrt(K - 1);
    return {
      nc1: trace / K,
      nc2: norm(products.map((x, i) => x / size - simplex(i))),
      nc3: norm(H.map((x, i) => W[i] / sizeW - x / sizeH)),
    };
  };

  // Random numbers in [0, 1): mulberry32.
  const randomNumbers = seed => () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };

  class Trainer {
    constructor(setup) {
      this.setup = setup;
      this.labels = Int32Array.from(setup.labels, Number); // training images, then test images
      this.moved = Int32Array.from(setup.moved, Number); // where noise moves each training label
      this.count = this.moved.length;
      this.rows = Int32Array.from(this.labels.keys());
      this.images = Float64Array.from(setup.pixels, letter => {
        const grey = Math.floor((255 * (letter.charCodeAt(0) - 65) + 8) / 16); // 0..16 to 0..255
        return (grey - setup.mean) / setup.deviation;
      });
      this.settings = { ...setup.settings };
      const [CE, LS] = [0, 1].map(() => new Network(setup.widths, this.labels.length));
      this.networks = { CE, LS };
      this.reset();
    }

    reset() {
      for (const network of Object.values(this.networks)) network.start(this.setup.weights);
      this.epoch = this.step = 0;
      this.history = { CE: [], LS: [] };
      this.measure();
    }

    // The training labels at this noise rate: more noise moves more labels, none moves back.
    noisyLabels() {
      const { draws } = this.setup, percent = Math.round(100 * this.settings.noise);
      return this.moved.map((other, n) => draws[n] < 100 - percent ? this.labels[n] : other);
    }

    // The order of the training images in an epoch, counted from 0.
    order(epoch) {
      const random = randomNumbers(1000 * this.setup.seed + epoch);
      const rows = this.rows.slice(0, this.count);
      for (let n = rows.length - 1; n > 0; n--) {
        const other = Math.floor(random() * (n + 1));
        [rows[n], rows[other]] = [rows[other], rows[n]];
      }
      return rows;
    }

    // One batch for both networks.
    advance() {
      const { batch, momentum } = this.setup, { lr, decay, delta } = this.settings;
      if (this.step === 0) this.rowsNow = this.order(this.epoch);
      const rows = this.rowsNow.subarray(this.step * batch, (this.step + 1) * batch);
      const noisy = this.noisyLabels();
      for (const [name, network] of Object.entries(this.networks)) {
        network.forward(this.images, rows);
        network.backward(this.images, rows, noisy, name === "LS" ? delta : 0);
        network.update(lr, momentum, decay);
      }
      this.step++;
      if (this.step * batch < this.count) return;
      this.step = 0;
      this.epoch++;
      this.measure();
    }

    train(epochs) {
      for (const end = this.epoch + epochs; this.epoch < end;) this.advance();
    }

    // Loss and collapse of the training images, accuracy and ECE of the test images.
    measure() {
      const noisy = this.noisyLabels(), K = this.setup.widths[this.setup.widths.length - 1];
      for (const [name, network] of Object.entries(this.networks)) {
        network.forward(this.images, this.rows);
        const features = network.features.out, logits = network.last.out;
        this.history[name].push({
          loss: meanLoss(logits, noisy, this.count, K, name === "LS" ? this.settings.delta : 0),
          ...calibrate(logits, this.labels, this.count, this.labels.length, K),
          ...collapse(features, this.labels, this.count, K, network.last.W.w),
        });
      }
    }
  }

  // The features of the training images, the classifier's rows as rays, a digit at each class mean.
  const drawFeatures = (canvas, trainer, name, limits) => {
    const { setup, labels, count } = trainer, network = trainer.networks[name];
    network.forward(trainer.images, trainer.rows.subarray(0, count));
    const features = network.features.out, W = network.last.W.w, noisy = trainer.noisyLabels();
    const side = canvas.clientWidth || 300, dense = window.devicePixelRatio || 1;
    canvas.width = canvas.height = Math.round(side * dense);
    const pen = canvas.getContext("2d"), middle = side / 2;
    pen.scale(dense, dense);
    let furthest = 0;
    for (let i = 0; i < 2 * count; i++) furthest = Math.max(furthest, Math.abs(features[i]));
    // the scale grows at once and shrinks slowly, so that the picture does not tremble
    limits[name] = Math.max(furthest, 0.9 * (limits[name] || 0));
    const scale = (middle - 12) / limits[name];
    const place = (x, y) => [middle + scale * x, middle - scale * y];
    const line = (colour, ...points) => {
      pen.strokeStyle = colour;
      pen.beginPath();
      points.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
      pen.stroke();
    };
    line(setup.soft, [0, middle], [side, middle]);
    line(setup.soft, [middle, 0], [middle, side]);
    setup.colours.forEach((colour, k) => {
      const [x, y] = W.subarray(2 * k, 2 * k + 2), stretch = limits[name] / Math.hypot(x, y);
      line(colour, [middle, middle], place(stretch * x, stretch * y));
    });
    for (let n = 0; n < count; n++) {
      const [x, y] = place(features[2 * n], features[2 * n + 1]), colour = setup.colours[labels[n]];
      pen.fillStyle = colour;
      if (noisy[n] === labels[n]) {
        pen.fillRect(x - 1.25, y - 1.25, 2.5, 2.5);
      } else { // a wrong label
        line(colour, [x - 3, y - 3], [x + 3, y + 3]);
        line(colour, [x - 3, y + 3], [x + 3, y - 3]);
      }
    }
    const means = classMeans(features, labels, count, setup.colours.length);
    Object.assign(pen, { font: "bold 15px sans-serif", textAlign: "center", lineWidth: 4 });
    Object.assign(pen, { textBaseline: "middle", strokeStyle: "white", fillStyle: setup.ink });
    setup.colours.forEach((_, k) => {
      const [x, y] = place(means[2 * k], means[2 * k + 1]);
      pen.strokeText(k, x, y);
      pen.fillText(k, x, y);
    });
    return furthest;
  };

  // Both networks' values over the epochs, their range and their last values.
  const drawChart = (chart, history) => {
    const WIDTH = 160, HEIGHT = 60; // of its view box
    const metric = chart.dataset.metric, scale = metric === "nc1" ? Math.log10 : x => x;
    const series = Object.entries(history).map(([name, rows]) => [name, rows.map(r => r[metric])]);
    const finite = series.flatMap(([, values]) => values).filter(Number.isFinite);
    const [low, high] = [Math.min(...finite), Math.max(...finite)];
    const height = value => HEIGHT * (scale(high) - scale(value)) / (scale(high) - scale(low) || 1);
    for (const [name, values] of series) {
      const step = WIDTH / Math.max(1, values.length - 1);
      const points = values.map((y, i) => [i * step, height(y)].map(x => x.toFixed(1)));
      chart.querySelector(`polyline.${name}`).setAttribute("points", points.join(" "));
      chart.querySelector(`output.${name}`).textContent = values[values.length - 1].toPrecision(3);
    }
    // at the start there is one value of each, and no curve whose ends could be named
    const level = chart.classList.toggle("empty", history.CE.length < 2) || !(low < high);
    const ends = level ? ["", ""] : [high, low].map(value => value.toPrecision(2));
    [".high", ".low"].forEach((name, i) => { chart.querySelector(name).textContent = ends[i]; });
  };

  const root = document.currentScript.closest(".lsnc-trainer");
  const find = selector => root.querySelector(selector);
  const trainer = new Trainer(JSON.parse(find("script[type='application/json']").textContent));
  root.trainer = Object.assign(trainer, { collapse, calibrate });
  const [play, status] = [find(".play"), find(".status")], limits = {};
  // who asks for less motion sees every tenth epoch
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  const hasEnded = () => trainer.epoch >= trainer.setup.epochs;
  let playing = false, drawn = -1, next = 0;

  const draw = () => {
    for (const canvas of root.querySelectorAll("canvas")) {
      const furthest = drawFeatures(canvas, trainer, canvas.dataset.name, limits);
      canvas.parentElement.querySelector("output").textContent = furthest.toPrecision(2);
    }
    if (drawn !== trainer.epoch) {
      root.querySelectorAll(".chart").forEach(chart => drawChart(chart, trainer.history));
    }
    find(".epoch").textContent = `epoch ${trainer.epoch} of ${trainer.setup.epochs}`;
    drawn = trainer.epoch;
  };

  const setPlaying = value => {
    playing = value;
    play.textContent = playing ? "Pause" : "Play";
    const text = Object.entries(trainer.history).map(([name, rows]) => {
      const { accuracy, nc1 } = rows[rows.length - 1];
      return `${name} has test accuracy ${accuracy.toPrecision(3)} and NC1 ${nc1.toPrecision(2)}`;
    });
    status.textContent = playing ? "" : `After ${trainer.epoch} epochs ${text.join("; ")}.`;
    cancelAnimationFrame(next);
    if (playing) next = requestAnimationFrame(frame);
  };

  const frame = () => {
    if (!root.isConnected) return;
    const due = performance.now() + 12; // milliseconds
    do trainer.advance(); while (performance.now() < due && !hasEnded());
    if (!still.matches || hasEnded() || trainer.epoch >= drawn + 10) draw();
    if (hasEnded()) setPlaying(false);
    else next = requestAnimationFrame(frame);
  };

  play.addEventListener("click", () => setPlaying(!playing && !hasEnded()));
  find(".reset").addEventListener("click", () => {
    trainer.reset();
    drawn = -1;
    setPlaying(false);
    draw();
  });
  for (const control of root.querySelectorAll("input")) {
    control.addEventListener("input", () => {
      const value = trainer.setup.controls[control.name][control.value];
      trainer.settings[control.name] = value;
      control.nextElementSibling.textContent = String(value);
      control.setAttribute("aria-valuetext", String(value));
      if (!playing) draw();
    });
  }
  new ResizeObserver(draw).observe(find("canvas")); // also when a folded page opens
  find(".static").hidden = true;
  find(".live").hidden = false;
  draw();
})();
