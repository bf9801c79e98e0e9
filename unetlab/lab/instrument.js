// The front end of every instrument of the course: labelled controls, a status line, charts, a strip of pictures.
// It knows nothing of training. Python says what to show (traits of the model); the front end says what was touched
// (messages {id, value}). Native inputs and buttons, so that keyboard and screen reader work without our help.

const SVG_DASH = { solid: [], dashed: [7, 4], dotted: [2, 3], dashdot: [8, 3, 2, 3] };

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

// ------------------------------------------------------------------------------------------------- controls

function shown(spec, value) {
  if (value === null || value === undefined) return "";
  if (spec.texts) return spec.texts[value];
  if (!spec.log || +value === 0) return String(+(+value).toPrecision(6));
  return +value >= 1e-3 && +value < 1e4 ? String(+(+value).toPrecision(2)) : (+value).toExponential(1).replace(".0e", "e");
}

const HOLD = 400; // ms after a touch in which Python's answer, perhaps to an earlier touch, does not move the slider

// A slider on a log scale moves in exponents, and shows 0 at its left end; everything else moves in values.
const inward = (spec, value) => (spec.log ? Math.max(Math.log10(value), -99) : value);
const outward = (spec, value) => (spec.log ? 10 ** value : +value);

function makeControl(spec, send) {
  if (spec.kind === "button") {
    const button = element("button", { type: "button", class: `ul-button ul-${spec.style || "plain"}`, title: spec.hint });
    button.textContent = spec.label;
    button.addEventListener("click", () => send({ id: spec.id, value: true }));
    return { node: button, input: button, set() {} };
  }
  const id = `ul-${spec.id}-${Math.random().toString(36).slice(2)}`;
  const label = element("label", { for: id, class: "ul-label" });
  label.textContent = spec.label;
  if (spec.kind === "select") {
    const input = element("select", { id, "aria-label": spec.label, title: spec.hint });
    spec.options.forEach((text) => input.append(new Option(text, text)));
    input.addEventListener("change", () => send({ id: spec.id, value: input.value }));
    return { node: element("div", { class: "ul-control" }, label, input), input, set: (v) => (input.value = v) };
  }
  if (spec.kind === "check") {
    const input = element("input", { id, type: "checkbox", "aria-label": spec.label, title: spec.hint });
    input.addEventListener("change", () => send({ id: spec.id, value: input.checked }));
    return { node: element("div", { class: "ul-control" }, label, input), input, set: (v) => (input.checked = v) };
  }
  // A slider with its value beside it.
  const input = element("input", { id, type: "range", "aria-label": spec.label, title: spec.hint });
  input.min = inward(spec, spec.min);
  input.max = inward(spec, spec.max);
  input.step = spec.step;
  const value = element("span", { class: "ul-value", "aria-hidden": "true" }); // aria-valuetext says the same
  let pending = null, touched = 0, late = 0;
  const tell = (now) => {
    value.textContent = shown(spec, now);
    input.setAttribute("aria-valuetext", shown(spec, now));
  };
  input.addEventListener("input", () => {
    const now = outward(spec, input.value);
    tell(now);
    touched = performance.now();
    if (pending === null) requestAnimationFrame(() => { send({ id: spec.id, value: pending }); pending = null; });
    pending = now; // at most one message a frame while dragging, and always the newest value
  });
  return {
    node: element("div", { class: `ul-control ul-${spec.style || "plain"}` }, label, input, value),
    input,
    setRange(min, max) { input.min = inward(spec, min); input.max = inward(spec, max); },
    set(v) {
      if (v === null || v === undefined) return;
      clearTimeout(late);
      const left = touched + HOLD - performance.now();
      if (left > 0) { late = setTimeout(() => this.set(v), left); return; }
      input.value = inward(spec, v);
      tell(v); // the exact value, not the slider's nearest step
    },
  };
}

// --------------------------------------------------------------------------------------------------- charts

function niceTicks(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= 0.75 * raw);
  const ticks = [];
  for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) ticks.push(+t.toPrecision(12));
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let e = Math.floor(low); e <= Math.ceil(high); e++)
    for (const m of high - low > 2.5 ? [1] : high - low > 1 ? [1, 3] : [1, 2, 3, 5]) {
      const t = Math.log10(m) + e;
      if (t >= low && t <= high) ticks.push(t);
    }
  return ticks;
}

const tickText = (v) => (v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5) ? v.toExponential(0) : String(+v.toPrecision(3)));

class Chart {
  constructor(host, send) {
    this.canvas = element("canvas", { class: "ul-canvas", role: "img" });
    this.legend = element("div", { class: "ul-legend" });
    this.title = element("div", { class: "ul-title" });
    this.node = element("figure", { class: "ul-chart" }, this.title, this.canvas, this.legend);
    host.append(this.node);
    this.touch(send);
    this.resized = new ResizeObserver(() => this.measure());
    this.resized.observe(this.canvas);
  }

  // Size and colours are read when they have changed, not at every drawing: to ask makes the browser lay out the page.
  measure() {
    const style = getComputedStyle(this.canvas);
    this.ink = style.color;
    this.grid = style.getPropertyValue("--ul-grid");
    this.font = `11px ${style.fontFamily}`;
    [this.width, this.height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    this.draw(this.panel, this.data);
  }

  remove() {
    this.resized.disconnect();
    this.node.remove();
  }

  // Drawing or picking with the pointer; every gesture has a keyboard twin among the controls.
  touch(send) {
    let held = false;
    const tell = (event, first) => {
      if (!this.panel?.touch || !this.scale) return;
      const box = this.canvas.getBoundingClientRect();
      const [x, y] = this.scale.back(event.clientX - box.left, event.clientY - box.top);
      send({ id: this.panel.touch, value: [x, y, first] });
    };
    this.canvas.addEventListener("pointerdown", (e) => { held = true; this.canvas.setPointerCapture(e.pointerId); tell(e, true); });
    this.canvas.addEventListener("pointermove", (e) => held && tell(e, false));
    for (const end of ["pointerup", "pointercancel"]) this.canvas.addEventListener(end, () => (held = false));
  }

  draw(panel, data) {
    [this.panel, this.data] = [panel, data];
    if (this.title.textContent !== panel.title) this.title.textContent = panel.title;
    this.canvas.setAttribute("aria-label", panel.label || panel.title);
    this.node.classList.toggle("ul-chart-wide", Boolean(panel.wide));
    this.canvas.classList.toggle("ul-touch", Boolean(panel.touch));
    const { width, height, ink, grid } = this, ratio = window.devicePixelRatio || 1;
    if (!width) return;
    if (this.canvas.width !== Math.round(width * ratio)) this.canvas.width = Math.round(width * ratio);
    if (this.canvas.height !== Math.round(height * ratio)) this.canvas.height = Math.round(height * ratio);
    const c = this.canvas.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    c.font = this.font;

    const lift = (v) => (panel.log ? Math.log10(v) : v);
    const series = panel.series.map((s) => ({
      ...s,
      x: data.subarray(s.x[0], s.x[0] + s.x[1]),
      y: data.subarray(s.y[0], s.y[0] + s.y[1]),
    }));
    let [xLow, xHigh] = panel.xlim || [Infinity, -Infinity], [yLow, yHigh] = panel.ylim ? panel.ylim.map(lift) : [Infinity, -Infinity];
    for (const s of series)
      for (let i = 0; i < s.x.length; i++) {
        const y = lift(s.y[i]);
        if (!panel.xlim) { xLow = Math.min(xLow, s.x[i]); xHigh = Math.max(xHigh, s.x[i]); }
        if (!panel.ylim && Number.isFinite(y)) { yLow = Math.min(yLow, y); yHigh = Math.max(yHigh, y); }
      }
    if (!(xHigh > xLow)) [xLow, xHigh] = Number.isFinite(xLow) ? [xLow - 0.5, xLow + 0.5] : [0, 1];
    if (!Number.isFinite(yLow)) [yLow, yHigh] = panel.log ? [-4, -1] : [0, 1];
    if (!panel.ylim) {
      const room = panel.log ? 0.15 : 0.06;
      const margin = Math.max((yHigh - yLow) * room, panel.log ? 0.2 : Math.abs(yHigh) * 0.02 || 0.05);
      [yLow, yHigh] = [yLow - margin, yHigh + margin];
    }
    const left = panel.ylabel ? 60 : 46, right = 10, top = 8, bottom = 30;
    const X = (x) => left + ((x - xLow) / (xHigh - xLow)) * (width - left - right);
    const Y = (y) => height - bottom - ((y - yLow) / (yHigh - yLow)) * (height - top - bottom);
    this.scale = {
      back: (px, py) => {
        const x = xLow + ((px - left) / (width - left - right)) * (xHigh - xLow);
        const y = yLow + ((height - bottom - py) / (height - top - bottom)) * (yHigh - yLow);
        const inside = (v, low, high) => Math.min(Math.max(v, low), high);
        const fy = inside(y, yLow, yHigh);
        return [inside(x, xLow, xHigh), panel.log ? 10 ** fy : fy];
      },
    };

    c.lineWidth = 1;
    c.fillStyle = ink;
    c.strokeStyle = grid;
    c.textBaseline = "middle";
    c.textAlign = "right";
    for (const t of panel.log ? logTicks(yLow, yHigh) : niceTicks(yLow, yHigh, 4)) {
      c.beginPath(); c.moveTo(left, Y(t)); c.lineTo(width - right, Y(t)); c.stroke();
      c.fillText(tickText(panel.log ? 10 ** t : t), left - 5, Y(t));
    }
    c.textAlign = "center";
    c.textBaseline = "top";
    const xText = panel.xlog ? (t) => tickText(10 ** t) : tickText;
    for (const t of panel.xlog ? logTicks(xLow, xHigh) : niceTicks(xLow, xHigh, Math.max(width / 90, 2)))
      c.fillText(xText(t), X(t), height - bottom + 5);
    c.fillText(panel.xlabel || "", left + (width - left - right) / 2, height - 12);
    if (panel.ylabel) {
      c.save();
      c.translate(2, top + (height - top - bottom) / 2);
      c.rotate(-Math.PI / 2);
      c.fillText(panel.ylabel, 0, 0);
      c.restore();
    }

    c.save();
    c.beginPath(); c.rect(left, 0, width - left - right, height - bottom); c.clip();
    const faint = Math.min(0.6, Math.max(0.12, 6 / (panel.marks || []).filter((mark) => !mark.color).length)); // a drag leaves many
    for (const mark of panel.marks || []) {
      c.strokeStyle = mark.color || ink;
      c.setLineDash(SVG_DASH[mark.dash || "dotted"]);
      c.lineWidth = mark.width || 1;
      c.globalAlpha = mark.color ? 1 : faint;
      c.beginPath();
      if (mark.y !== undefined) { c.moveTo(left, Y(lift(mark.y))); c.lineTo(width - right, Y(lift(mark.y))); }
      else { c.moveTo(X(mark.x), top); c.lineTo(X(mark.x), height - bottom); }
      c.stroke();
      c.globalAlpha = 1;
      if (mark.text) {
        c.fillStyle = ink;
        const long = c.measureText(mark.text).width + 4;
        const atRight = mark.y === undefined && (mark.before ? X(mark.x) - long > left : X(mark.x) + long > width - right);
        c.textAlign = mark.y !== undefined || atRight ? "right" : "left";
        const [tx, ty] = mark.y !== undefined ? [width - right - 3, Y(lift(mark.y)) - 13] : [X(mark.x) + (atRight ? -4 : 4), top + 13 * (mark.row || 0)];
        c.fillText(mark.text, tx, Math.max(ty, 0));
      }
    }
    for (const s of series) {
      c.strokeStyle = s.color;
      c.fillStyle = s.color;
      c.lineWidth = s.width || 1.8;
      c.globalAlpha = s.alpha || 1;
      c.setLineDash(SVG_DASH[s.dash || "solid"]);
      c.beginPath();
      let pen = false;
      for (let i = 0; i < s.x.length; i++) {
        const y = lift(s.y[i]);
        if (!Number.isFinite(y)) { pen = false; continue; }
        if (s.steps && pen) c.lineTo(X(s.x[i]), Y(lift(s.y[i - 1])));
        pen ? c.lineTo(X(s.x[i]), Y(y)) : c.moveTo(X(s.x[i]), Y(y));
        pen = true;
      }
      c.stroke();
      c.setLineDash([]);
      if (s.dots || s.x.length === 1)
        for (let i = 0; i < s.x.length; i++) { c.beginPath(); c.arc(X(s.x[i]), Y(lift(s.y[i])), s.dots || 3, 0, 7); c.fill(); }
      c.globalAlpha = 1;
    }
    c.restore();
    this.writeLegend(series.filter((s) => s.name));
  }

  writeLegend(named) {
    const key = named.map((s) => s.name + s.color + s.dash).join();
    if (key === this.legendKey) return;
    this.legendKey = key;
    this.legend.replaceChildren(
      ...named.map((s) => {
        const key = element("span", { class: "ul-key", "aria-hidden": "true", style: `opacity: ${s.alpha || 1}` });
        key.innerHTML = `<svg width="26" height="6"><line x2="26" y1="3" y2="3" stroke="${s.color}"
          stroke-width="${(s.width || 1.8) + 0.5}" stroke-dasharray="${SVG_DASH[s.dash || "solid"]}"/></svg>`;
        return element("span", {}, key, s.name);
      }),
    );
  }
}

// ---------------------------------------------------------------------------------------------- the instrument

function floats(view) {
  if (!view || !view.byteLength) return new Float32Array(0);
  return new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

function render({ model, el }) {
  const send = (message) => model.send(message);
  const root = element("div", { class: "ul-instrument", role: "group", "aria-label": model.get("title") });
  const title = element("div", { class: "ul-heading" });
  title.textContent = model.get("title");
  const controls = {}, rows = new Map();
  const panel = element("div", { class: "ul-controls" });
  for (const spec of model.get("controls")) {
    const row = spec.row || 0;
    if (!rows.has(row)) { rows.set(row, element("div", { class: "ul-row" })); panel.append(rows.get(row)); }
    controls[spec.id] = makeControl(spec, send);
    // JupyterLab would take the arrow keys away from a focused slider.
    controls[spec.id].input.setAttribute("data-lm-suppress-shortcuts", "true");
    rows.get(row).append(controls[spec.id].node);
  }
  const bar = element("progress", { class: "ul-progress", max: "1", value: "0", "aria-label": "Progress" });
  // Four times a second is too often to be read aloud; what went wrong is.
  const status = element("div", { class: "ul-status", role: "status", "aria-live": "off" });
  const alert = element("div", { class: "ul-alert", role: "alert" });
  const table = element("table", { class: "ul-table" });
  const charts = element("div", { class: "ul-charts" });
  const strip = element("canvas", { class: "ul-strip", role: "img" });
  const caption = element("div", { class: "ul-caption" });
  const names = element("div", { class: "ul-strip-titles", "aria-hidden": "true" });
  const pictures = element("div", { class: "ul-pictures" }, names, strip, caption);
  const body = element("div", { class: "ul-body" }, charts, element("div", { class: "ul-side" }, table, pictures));
  root.append(title, panel, bar, status, alert, body);
  el.append(root);

  const drawn = [];
  const drawCharts = () => {
    const panels = model.get("panels"), data = floats(model.get("data"));
    while (drawn.length > panels.length) drawn.pop().remove();
    while (drawn.length < panels.length) drawn.push(new Chart(charts, send));
    panels.forEach((p, i) => drawn[i].draw(p, data));
  };
  let asked = 0; // charts and their numbers come together and are drawn once, when the page is
  const drawSoon = () => { asked ||= requestAnimationFrame(() => { asked = 0; drawCharts(); }); };
  const drawStrip = () => {
    const [width, height] = model.get("strip_size"), pixels = model.get("strip");
    strip.hidden = !width || !pixels || pixels.byteLength !== width * height * 3;
    if (strip.hidden) return;
    [strip.width, strip.height] = [width, height];
    const rgb = new Uint8Array(pixels.buffer, pixels.byteOffset, pixels.byteLength), c = strip.getContext("2d");
    const image = c.createImageData(width, height);
    for (let i = 0, j = 0; i < rgb.length; i += 3, j += 4) {
      image.data[j] = rgb[i]; image.data[j + 1] = rgb[i + 1]; image.data[j + 2] = rgb[i + 2]; image.data[j + 3] = 255;
    }
    c.putImageData(image, 0, 0);
  };
  const writeTitles = () => {
    const columns = model.get("strip_titles");
    body.classList.toggle("ul-wide", columns.length > 0);
    names.style.gridTemplateColumns = `repeat(${columns.length}, 1fr)`;
    names.replaceChildren(...columns.map((text) => element("span", {}, text)));
  };
  const writeCaption = () => {
    caption.innerHTML = "";
    for (const [text, color] of model.get("caption")) {
      const part = element("span", { class: "ul-caption-part" });
      if (color) part.append(element("span", { class: "ul-swatch", style: `background: ${color}` }));
      part.append(text);
      caption.append(part);
    }
    strip.setAttribute("aria-label", [...model.get("strip_titles"), ...model.get("caption").map(([text]) => text)].join(", "));
  };
  const writeTable = () => {
    const cells = model.get("table");
    table.hidden = !cells.length;
    table.replaceChildren(...cells.map((row, i) => element("tr", {}, ...row.map((text, j) => {
      const cell = element(i === 0 || j === 0 ? "th" : "td", { scope: i === 0 ? "col" : j === 0 ? "row" : null });
      cell.textContent = text;
      return cell;
    }))));
  };
  const writeStatus = () => {
    const { text, progress, problem } = model.get("status");
    bar.hidden = progress === null || progress === undefined;
    if (!bar.hidden) bar.value = progress;
    if (status.textContent !== text) status.textContent = text || "";
    if (alert.textContent !== (problem || "")) alert.textContent = problem || "";
    alert.hidden = !problem;
  };
  const setValues = () => {
    for (const [id, value] of Object.entries(model.get("values"))) controls[id]?.set(value);
  };
  const setEnabled = () => {
    const enabled = model.get("enabled");
    for (const [id, control] of Object.entries(controls)) {
      control.input.disabled = enabled[id] === false;
      control.node.hidden = enabled[id] === null;
    }
  };
  const setRanges = () => {
    for (const [id, [min, max]] of Object.entries(model.get("ranges"))) controls[id]?.setRange(min, max);
    setValues();
  };
  const listeners = {
    panels: drawSoon, data: drawSoon, strip: drawStrip, strip_titles: writeTitles, caption: writeCaption, table: writeTable,
    status: writeStatus, values: setValues, enabled: setEnabled, ranges: setRanges,
  };
  for (const [name, listener] of Object.entries(listeners)) model.on(`change:${name}`, listener);
  const recoloured = new MutationObserver(() => drawn.forEach((chart) => chart.measure())); // light to dark
  recoloured.observe(document.body, { attributes: true });
  setRanges(); setEnabled(); writeStatus(); writeTitles(); writeCaption(); writeTable(); drawStrip(); drawCharts();
  return () => {
    recoloured.disconnect();
    drawn.forEach((chart) => chart.remove());
    cancelAnimationFrame(asked);
    for (const [name, listener] of Object.entries(listeners)) model.off(`change:${name}`, listener);
  };
}

export default { render };
