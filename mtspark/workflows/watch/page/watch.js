"use strict";
// Messages come in order; each is shown once, and then the program is told so, by which it never
// sends more than this page can show. A hidden tab shows nothing, so it is sent nothing.
(() => {
  const KEPT = 150;
  const RASTER = 480;
  const COLOURS = ["#f4b942", "#f08a4b", "#e0567a", "#9b6bd6", "#4fa3d9", "#58b89c", "#c9c265"];
  const part = (name) => document.getElementById(name);
  const made = (tag, owner, text) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    owner.append(element);
    return element;
  };
  const few = (value) => {
    const size = Math.abs(value);
    if (size >= 1e6) return (value / 1e6).toFixed(2) + " M";
    if (size >= 1e4) return (value / 1e3).toFixed(1) + " k";
    if (Number.isInteger(value) || size >= 1e3) return value.toFixed(0);
    return value.toPrecision(3);
  };

  let about = null;
  let state = { paused: false, faults: {}, seed: 0 };
  let layers = [];
  let bars = [];
  let marked = false;
  let counted = 0;
  const history = { x: [], spikes: [], energy: [] };
  const waiting = [];
  let drawing = false;

  const address = new URL("messages", location.href.replace(/^http/, "ws"));
  address.search = location.search;
  const channel = new WebSocket(address);
  const order = (content) => {
    if (channel.readyState === WebSocket.OPEN) channel.send(JSON.stringify(content));
  };

  channel.onopen = () => { part("link").textContent = "connected"; };
  channel.onclose = () => {
    part("link").textContent = "not connected: the program has ended, or refused; start it and open its new address";
    document.body.dataset.link = "closed";
    for (const button of document.querySelectorAll("button")) button.disabled = true;
  };
  channel.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "hello") return greet(message);
    if (message.type === "refused") {
      part("link").textContent = message.text;
      return;
    }
    waiting.push(message);
    if (!drawing) {
      drawing = true;
      requestAnimationFrame(show);
    }
  };

  function show() {
    drawing = false;
    for (const message of waiting.splice(0)) {
      if (message.state) tell(message.state);
      if (message.type === "decision") decide(message);
      if (message.type === "game") {
        part("last").textContent =
          `The last game: ${few(message.score)} points in ${message.decisions} decisions.`;
      }
      if (message.type === "failed") part("link").textContent = "the game has ended by an error";
      order({ type: "shown" });
    }
    for (const curve of curves) curve.draw();
  }

  function greet(message) {
    about = message;
    part("title").textContent = `${about.agent} plays ${about.task}`;
    document.title = `${about.task}: mtspark watch`;
    part("card").textContent = about.card;
    part("values-title").textContent = about.bounds ? "Numbers of the action" : "Action values";
    part("kind").replaceChildren();
    for (const kind of about.kinds) made("option", part("kind"), kind).value = kind;
    part("layers").replaceChildren();
    layers = about.layers.map((layer, index) => {
      const box = made("div", part("layers"));
      box.className = "layer";
      const words = made("p", box);
      made("b", words, layer.name);
      const count = made("span", words, `${layer.neurons} neurons`);
      const canvas = made("canvas", box);
      canvas.width = RASTER;
      canvas.height = layer.shown;
      canvas.style.height = `${Math.min(96, Math.max(36, layer.shown))}px`;
      canvas.setAttribute("aria-label", `spikes of ${layer.name}`);
      return { ...layer, count, context: canvas.getContext("2d"), colour: COLOURS[index % COLOURS.length] };
    });
    part("values").replaceChildren();
    bars = about.actions.map((name) => {
      const item = made("li", part("values"));
      made("span", item, name);
      const number = made("span", item, "-");
      const meter = made("meter", item);
      meter.setAttribute("aria-label", name);
      return { item, number, meter };
    });
    tell(about.state);
  }

  function tell(now) {
    const before = JSON.stringify(state.faults);
    state = now;
    part("pause").textContent = state.paused ? "Resume" : "Pause";
    document.body.dataset.paused = state.paused;
    part("seed").textContent = state.seed;
    const faults = Object.entries(state.faults).map(([kind, rate]) => `${kind} ${rate}`);
    part("fault").hidden = faults.length === 0;
    part("fault").textContent = faults.length ? `The chip is broken: ${faults.join(", ")}` : "";
    if (before !== JSON.stringify(state.faults)) marked = true;
  }

  function decide(message) {
    const total = Object.values(message.spikes).reduce((sum, count) => sum + count, 0);
    part("score").textContent = few(message.score);
    part("number").textContent = message.number;
    part("spikes").textContent = few(total);
    part("operations").textContent = few(message.operations);
    part("energy").textContent = few(message.energy_uj);
    part("view").hidden = !message.view;
    part("view").textContent = message.view ? `Shown is what the agent sees: ${message.view}` : "";
    document.body.dataset.number = message.number;
    paint(message.picture);
    for (const layer of layers) raster(layer, message.rasters[layer.name], message.spikes[layer.name]);
    marked = false;
    weigh(message);
    counted += 1;
    history.x.push(counted);
    history.spikes.push(total);
    history.energy.push(message.energy_uj);
    for (const row of Object.values(history)) if (row.length > KEPT) row.shift();
  }

  let painted = 0;
  function paint(picture) {
    const image = new Image();
    const turn = ++painted;
    image.onload = () => {
      if (turn < painted - 1) return;
      const screen = part("screen");
      // A console's pixels are wide; its picture fills a screen of 4 to 3.
      if (screen.width !== image.width || screen.height !== image.height) {
        screen.width = image.width;
        screen.height = image.height;
        const console = image.width === 160 && image.height >= 192;
        screen.style.objectFit = console ? "fill" : "contain";
      }
      screen.getContext("2d").drawImage(image, 0, 0);
      document.body.dataset.painted = turn;
    };
    image.src = picture;
  }

  function raster(layer, text, count) {
    layer.count.textContent = `${few(count)} spikes of ${layer.neurons} neurons`;
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const { context, shown, colour } = layer;
    const steps = about.steps;
    context.globalCompositeOperation = "copy";
    context.drawImage(context.canvas, -steps, 0);
    context.globalCompositeOperation = "source-over";
    context.fillStyle = colour;
    const left = RASTER - steps;
    for (let step = 0; step < steps; step += 1) {
      for (let row = 0; row < shown; row += 1) {
        const place = step * shown + row;
        if (bytes[place >> 3] & (128 >> (place & 7))) context.fillRect(left + step, row, 1, 1);
      }
    }
    if (marked) {
      context.fillStyle = "#ff5a45";
      context.fillRect(left, 0, 2, shown);
    }
  }

  function weigh(message) {
    const { values, chosen } = message;
    const low = about.bounds ? about.bounds[0] : values.map(() => Math.min(...values));
    const high = about.bounds ? about.bounds[1] : values.map(() => Math.max(...values));
    bars.forEach(({ item, number, meter }, index) => {
      number.textContent = few(values[index]);
      meter.min = 0;
      meter.max = 1;
      meter.value = (values[index] - low[index]) / (high[index] - low[index] || 1);
      item.className = index === chosen ? "chosen" : "";
    });
  }

  class Curve {
    constructor(name, label, rows, colour) {
      this.box = part(name);
      this.rows = rows;
      this.make = () => {
        this.plot?.destroy();
        const style = getComputedStyle(document.documentElement);
        const axis = {
          stroke: style.getPropertyValue("--muted"),
          grid: { stroke: style.getPropertyValue("--grid"), width: 1 },
          ticks: { show: false },
          font: "12px sans-serif",
        };
        this.plot = new uPlot(
          {
            width: this.box.clientWidth || 300,
            height: 130,
            padding: [8, 8, 0, 0],
            legend: { show: false },
            cursor: { show: false },
            scales: { x: { time: false }, y: { range: (plot, low, high) => [0, (high || 1) * 1.1] } },
            axes: [axis, { ...axis, size: 56 }],
            series: [{}, { label, stroke: colour, width: 2, points: { show: false } }],
          },
          [history.x, rows],
          this.box,
        );
      };
      this.make();
      new ResizeObserver(() => {
        this.plot.setSize({ width: this.box.clientWidth, height: 130 });
      }).observe(this.box);
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.make);
    }

    draw() {
      this.plot.setData([history.x, this.rows]);
    }
  }
  const curves = [
    new Curve("spike-curve", "spikes", history.spikes, COLOURS[4]),
    new Curve("energy-curve", "µJ", history.energy, COLOURS[2]),
  ];

  part("pause").onclick = () => order({ type: state.paused ? "resume" : "pause" });
  part("step").onclick = () => order({ type: "step" });
  part("heal").onclick = () => order({ type: "heal" });
  part("break").onsubmit = (event) => {
    event.preventDefault();
    order({ type: "fault", kind: part("kind").value, rate: Number(part("rate").value) });
  };
})();
