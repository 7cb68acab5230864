// The stage: mounts a widget on a host. The host gives `model` (get, set, save_changes, on, send: anywidget's contract)
// and an element; the widget gives `compute(state, spec)` and `draw(view, numbers, state, spec)`; all names, ranges,
// grids, colours and words come from Python in one `spec`.

import { axisBottom, axisLeft, axisRight } from "d3-axis";
import { drag } from "d3-drag";
import { scaleLinear } from "d3-scale";
import { pointer, select } from "d3-selection";
import { area, line } from "d3-shape";
import style from "./stage.css";

/** Make an HTML element inside a parent, with attributes and, if given, a text. */
export function make(parent, tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  parent.append(element);
  return element;
}

/** Tell whether the page is dark: JupyterLab and Colab say so, elsewhere the reader's own setting counts. */
export function isDark() {
  const lab = document.body.dataset.jpThemeLight;
  if (lab !== undefined) return lab === "false";
  const theme = document.documentElement.getAttribute("theme");
  if (theme) return theme === "dark";
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

// State --------------------------------------------------------------------------------------------------------------

/** A number as a reader sees it: with a true minus sign, and none before a zero. */
export function written(value, digits = 3) {
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}

/** The value of a range nearest to a number that it can take. */
export function within(control, value) {
  const steps = Math.round((value - control.low) / control.step);
  const digits = Math.max(0, Math.ceil(-Math.log10(control.step) - 1e-9) + 1);
  return Math.min(control.high, Math.max(control.low, Number((control.low + steps * control.step).toFixed(digits))));
}

/** Values as near to the given ones as the ranges allow, in their steps; with `step` 0 in none. */
export function nearest(values, spec, step = 1) {
  const inside = ([name, value]) => {
    const control = spec.controls.find((other) => other.name === name);
    if (control.kind !== "range") return [name, value];
    return [name, step ? within(control, value) : Math.min(control.high, Math.max(control.low, value))];
  };
  return Object.fromEntries(Object.entries(values).map(inside));
}

const quoted = (name) => `'${name}'`;

/** Throw an error that names the first part of a state which its control can't take, or which is no control's. */
export function check(values, spec) {
  const known = Object.fromEntries(spec.controls.map((control) => [control.name, control]));
  for (const [name, value] of Object.entries(values)) {
    const control = known[name];
    if (!control) throw new RangeError(`control '${name}' is not known; allowed: ${Object.keys(known).map(quoted).join(", ")}`);
    if (control.kind === "choice") {
      const allowed = control.options.map(([key]) => key);
      if (!allowed.includes(value)) {
        throw new RangeError(`${name} '${value}' is not known; allowed: ${allowed.map(quoted).join(", ")}`);
      }
    } else if (control.kind === "switch") {
      if (typeof value !== "boolean") throw new RangeError(`${name} = ${value}; true or false is needed`);
    } else if (typeof value !== "number" || !(control.low <= value && value <= control.high)) {
      throw new RangeError(`${name} = ${value} is out of range; allowed: ${control.low} to ${control.high}`);
    }
  }
}

/** A random state from what the spec says of surprises: an interval or a list for each of some controls. */
export function surprise(spec, random = Math.random) {
  const values = {};
  for (const control of spec.controls) {
    const among = spec.surprise[control.name];
    if (!among) continue;
    values[control.name] =
      control.kind === "range"
        ? within(control, among[0] + random() * (among[1] - among[0]))
        : among[Math.floor(random() * among.length)];
  }
  return values;
}

/** Tell whether a control applies in a state. */
export const applies = (control, state) =>
  Object.entries(control.when ?? {}).every(([name, values]) => values.includes(state[name]));

/** A model without a kernel, for plain pages and tests: what it is told it tells its listeners. */
export function plainModel(values) {
  const listeners = {};
  return {
    plain: true,
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      for (const listener of listeners[`change:${name}`] ?? []) listener();
    },
    save_changes() {},
    on: (event, listener) => (listeners[event] ??= []).push(listener),
    off: (event, listener) => (listeners[event] = (listeners[event] ?? []).filter((other) => other !== listener)),
  };
}

// Numbers that only a kernel computes ----------------------------------------------------------------------------------

const TYPES = { uint8: Uint8Array, int32: Int32Array, float32: Float32Array, float64: Float64Array };

/** The bytes of a DataView as a typed array. They are copied: a view may begin where no float may. */
export const typed = (type, view) =>
  new TYPES[type](view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

/** Numbers as Python packed them, with arrays as typed arrays; their `shape` is a property. */
export function unpacked(value) {
  if (value instanceof DataView || value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(unpacked);
  if (value.bytes instanceof DataView) return Object.assign(typed(value.type, value.bytes), { shape: value.shape });
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, unpacked(part)]));
}

const KEPT = 64; // answers
const PATIENCE = 2500; // milliseconds

/**
 * What a kernel answers: one request at a time, the newest waits, older ones are dropped; what was answered before is
 * known at once. `told` is called whenever there is something new to show.
 */
function kernelSource(model, spec, told) {
  const known = new Map();
  const keyOf = (state) => JSON.stringify(spec.kernel.of.map((name) => state[name]));
  for (const { state, numbers } of model.get("sprites")) known.set(keyOf(state), unpacked(numbers));
  const fixed = known.size;
  let number = Math.floor(Math.random() * 2 ** 31); // of the last request; two pages of one kernel differ
  let asked = null; // the request under way: {key, number, heard}
  let waiting = null;
  let timer = 0;
  const source = {
    share: null, // of a computation under way
    silent: false, // no word from the kernel for a while
    error: null, // of the last request: {key, text}
    alive: typeof model.send === "function" && !model.plain,
    numbers: (state) => known.get(keyOf(state)),
    pending: (state) => asked?.key === keyOf(state),
    partial: null,
    ask(state) {
      const key = keyOf(state);
      if (!source.alive || asked?.key === key || source.error?.key === key) return;
      if (asked && !source.silent) {
        waiting = state;
        return;
      }
      asked = { key, number: ++number };
      waiting = source.error = source.partial = null;
      source.share = 0;
      source.silent = false;
      watch();
      model.send({ number, state });
    },
    forget: () => (source.error = null),
    leave() {
      clearTimeout(timer);
      model.off("change:answer", heard);
    },
  };
  function watch() {
    clearTimeout(timer);
    timer = setTimeout(() => {
      source.silent = true;
      told();
    }, PATIENCE);
  }
  function heard() {
    const { number: of, share, numbers, error } = model.get("answer");
    if (asked?.number !== of) return; // of another view, or of an older request
    source.silent = false;
    source.share = share;
    clearTimeout(timer); // it has begun: it may take as long as it does
    if (numbers) source.partial = unpacked(numbers);
    if (share === 1) {
      if (error) source.error = { key: asked.key, text: error };
      else {
        known.delete(asked.key);
        known.set(asked.key, source.partial);
        if (known.size > fixed + KEPT) known.delete([...known.keys()][fixed]);
      }
      const next = waiting;
      asked = waiting = source.share = source.partial = null;
      if (next && !known.has(keyOf(next))) source.ask(next);
    }
    told();
  }
  model.on("change:answer", heard);
  return source;
}

// Mounting -----------------------------------------------------------------------------------------------------------

/** Mount the widget that `model` describes into `el`; return what takes it away. `widgets`: name → module. */
export function mount({ model, el }, widgets) {
  const spec = { ...model.get("spec"), assets: model.get("assets") };
  const widget = widgets[spec.name];
  const root = make(el, "div", { class: "stage", "data-widget": spec.name });
  make(root, "style").textContent = style;
  make(root, "b", { class: "title" }, spec.title);
  const frame = make(root, "div", { class: "controls" });
  const row = make(root, "div", { class: "buttons" });
  const readout = make(root, "output", { "aria-live": "polite" });
  const box = make(root, "div", { class: "error", role: "alert", hidden: "" });
  const news = spec.kernel && makeNews(make(root, "div", { class: "news", role: "status" }), model.get("sprites"), change);
  const source = spec.kernel && kernelSource(model, spec, ask);
  const view = makeView(make(root, "div", { class: "view", role: "group", "aria-label": spec.alt }), spec, change);
  const controls = spec.controls.filter(({ hidden }) => !hidden).map((control) => makeControl(frame, control, change));
  if (spec.kernel?.press) {
    button(spec.kernel.press, () => {
      source.forget();
      source.ask(model.get("state"));
      ask();
    });
  }
  button("Reset", () => change(spec.start, {}));
  button("Surprise me", () => change(surprise(spec)));
  for (const [name, label] of Object.entries(spec.actions)) {
    button(label, () => change(widget.actions[name](model.get("state"), spec)));
  }
  make(row, "span", { class: "hint" }, spec.hint);
  view.onReset = () => change(spec.start, {});

  function button(label, press) {
    make(row, "button", { type: "button" }, label).addEventListener("click", () => {
      try {
        press();
      } catch (error) {
        show(error);
      }
    });
  }

  /** Go to a state that differs in some values; what is no state is refused by name. */
  function change(values, from = model.get("state")) {
    check(values, spec);
    model.set("state", { ...from, ...values });
    model.save_changes();
    ask();
  }

  let asked = 0;
  /** Draw at the next frame; of several requests before it once. */
  function ask() {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      follow();
    });
  }

  let said = 0;
  /** Let controls, picture and readout follow the state. */
  function follow() {
    const state = model.get("state");
    try {
      check(state, spec);
      for (const control of controls) control.follow(state);
      const numbers = source ? fromKernel(state) : widget.compute(state, spec);
      if (!numbers) return;
      widget.draw(view, numbers, state, spec);
      clearTimeout(said);
      said = setTimeout(() => tell(numbers, state), readout.textContent ? 150 : 0);
      root.dataset.drawn = Number(root.dataset.drawn ?? 0) + 1;
      box.hidden = true;
    } catch (error) {
      show(error);
    }
  }

  /** Tell, readers of screens too, where the hand has come to rest. */
  function tell(numbers, state) {
    try {
      readout.innerHTML = widget.read(numbers, state, spec);
    } catch (error) {
      show(error);
    }
  }

  /** The kernel's numbers for a state, or those so far; else none, and the last picture stays, with news why. */
  function fromKernel(state) {
    const numbers = source.numbers(state);
    if (!numbers && !spec.kernel.press) source.ask(state);
    news.show(source, state, !numbers);
    if (source.error && !numbers) throw Object.assign(new Error(source.error.text), { name: "In the kernel" });
    return numbers ?? (source.pending(state) ? source.partial : null);
  }

  /** Say what went wrong, in which state, and what to press. */
  function show(error) {
    const state = JSON.stringify(model.get("state"));
    box.hidden = false;
    box.replaceChildren();
    make(box, "b", {}, error.name);
    box.append(`: ${error.message}`);
    make(box, "br");
    box.append(`State: ${state}. The picture shows the last state that worked: press Reset to go back to the start.`);
  }

  function recolour() {
    root.classList.toggle("dark", isDark());
    view.dark = isDark();
    ask();
  }

  const watcher = new MutationObserver(recolour);
  watcher.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  watcher.observe(document.documentElement, { attributes: true, attributeFilter: ["theme"] });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", recolour);
  model.on("change:state", ask);
  root.classList.toggle("dark", isDark());
  view.dark = isDark();
  follow();

  return () => {
    watcher.disconnect();
    scheme.removeEventListener("change", recolour);
    model.off("change:state", ask);
    cancelAnimationFrame(asked);
    clearTimeout(said);
    source?.leave();
    for (const control of controls) control.leave?.();
    root.remove();
  };
}

/** Where news of the kernel stand: how far it is, that it is silent, or which states need none. */
function makeNews(place, sprites, change) {
  const text = make(place, "span");
  const bar = make(place, "progress", { max: 1, hidden: "", "aria-label": "share computed" });
  const list = make(place, "select", { "aria-label": "computed beforehand" });
  for (const { title } of sprites) make(list, "option", {}, title);
  list.addEventListener("change", () => change(sprites[list.selectedIndex].state));
  return {
    show(source, state, missing) {
      const working = source.share !== null && !source.silent;
      bar.hidden = !working;
      bar.value = source.share ?? 0;
      list.hidden = source.alive && !source.silent;
      list.selectedIndex = sprites.findIndex(({ state: known }) => Object.keys(known).every((name) => known[name] === state[name]));
      if (working) text.textContent = "The kernel computes …";
      else if (source.silent) text.textContent = "The kernel is silent: it is busy with another cell, or gone. Meanwhile, computed beforehand:";
      else if (!source.alive) text.textContent = `${missing ? "This takes a kernel, which a page has not. " : ""}Computed beforehand:`;
      else text.textContent = missing ? "The picture shows the last state that was computed." : "";
    },
  };
}

/** A labelled control: a range with its value and unit, or a choice. `follow(state)` moves it. */
function makeControl(parent, control, change) {
  const label = make(parent, "label");
  make(label, "span", { class: "name" }, control.label);
  if (control.kind === "choice") {
    const list = make(label, "select", { name: control.name });
    for (const [key, text] of control.options) make(list, "option", { value: key }, text);
    list.addEventListener("change", () => change({ [control.name]: list.value }));
    return {
      follow(state) {
        list.value = state[control.name];
        list.disabled = !applies(control, state);
      },
    };
  }
  if (control.kind === "switch") {
    label.classList.add("switch");
    const box = make(label, "input", { type: "checkbox", name: control.name });
    box.addEventListener("change", () => change({ [control.name]: box.checked }));
    return {
      follow(state) {
        box.checked = state[control.name];
        box.disabled = !applies(control, state);
      },
    };
  }
  const { low: min, high: max, step } = control;
  const range = make(label, "input", { type: "range", name: control.name, min, max, step });
  const value = make(label, "span", { class: "value" });
  range.addEventListener("input", () => change({ [control.name]: within(control, Number(range.value)) }));
  const player = control.play ? makePlayer(label, control, range, change) : null;
  return {
    leave: () => player?.stop(),
    follow(state) {
      range.value = state[control.name];
      range.disabled = !applies(control, state);
      value.textContent = `${written(state[control.name], control.digits)}${control.unit ? ` ${control.unit}` : ""}`;
      range.setAttribute("aria-valuetext", value.textContent);
    },
  };
}

/** A button that steps a range to its end; one step a press for who wants no motion. */
function makePlayer(label, control, range, change) {
  const button = make(label, "button", { type: "button", class: "play", "aria-label": `Play ${control.label}` }, "▶");
  label.classList.add("played");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = "▶";
  };
  const step = () => {
    const at = Number(range.value);
    const next = at >= control.high ? control.low : within(control, at + control.step);
    change({ [control.name]: next });
    if (next >= control.high) stop();
  };
  button.addEventListener("click", (event) => {
    event.preventDefault(); // a label's button would move the focus to its range
    if (timer) return stop();
    step();
    if (still.matches) return undefined;
    timer = setInterval(step, control.play);
    button.textContent = "❚❚";
    return undefined;
  });
  range.addEventListener("pointerdown", stop);
  range.addEventListener("keydown", stop);
  return { stop };
}

// Drawing ------------------------------------------------------------------------------------------------------------

const MARGIN = { top: 34, bottom: 40 };
const REACH = 16; // of a finger around a handle

/** What a widget draws on: panels by name, colours of the page's scheme, and a way to change the state. */
function makeView(element, spec, change) {
  const panels = {};
  return {
    element,
    change,
    dark: false,
    onReset: () => {},
    /** Follow the hand as far as the controls go. */
    move: (values) => change(nearest(values, spec)),
    colour(name) {
      return spec.colours[name][this.dark ? 1 : 0];
    },
    panel(name, options) {
      return (panels[name] ??= makePanel(this, name, options));
    },
    images(name, options) {
      return (panels[name] ??= makeImages(this, name, options));
    },
  };
}

/**
 * A panel of square grey images, `columns` to a row, dark ink on white in both schemes. `pick(i)` is called for the one
 * that is clicked: a short way for the pointer to what a control does too.
 */
function makeImages(view, name, { width = 440, columns, gap = 2, label = "", pick = null }) {
  const holder = make(view.element, "figure", { class: "panel images", "data-panel": name, style: `--width: ${width}px; --least: ${0.85 * width}px` });
  const head = make(holder, "figcaption", { class: "head" });
  const stack = make(holder, "div", { class: "stack" });
  const canvas = make(stack, "canvas", { role: "img", "aria-label": label });
  const over = select(stack).append("svg").attr("preserveAspectRatio", "none").attr("aria-hidden", "true");
  const images = { canvas, columns, rows: 1 };
  if (pick) {
    canvas.classList.add("picked");
    canvas.addEventListener("click", (event) => {
      const column = Math.min(columns - 1, Math.floor((columns * event.offsetX) / canvas.clientWidth));
      const row = Math.min(images.rows - 1, Math.floor((images.rows * event.offsetY) / canvas.clientHeight));
      images.pick(row * columns + column);
    });
  }
  return Object.assign(images, {
    pick,
    /** Draw bytes (N x side x side), 255 is ink, one after the other. */
    draw(bytes, side, { title = "", alt = label } = {}) {
      head.textContent = title;
      canvas.setAttribute("aria-label", alt);
      const count = bytes.length / side ** 2;
      const cell = side + gap;
      images.rows = Math.ceil(count / columns);
      canvas.width = columns * cell;
      canvas.height = images.rows * cell;
      const context = canvas.getContext("2d");
      const picture = context.createImageData(canvas.width, canvas.height);
      const pixels = new Uint32Array(picture.data.buffer).fill(0xffffffff);
      for (let i = 0; i < count; i++) {
        const corner = (Math.floor(i / columns) * cell + (gap >> 1)) * canvas.width + (i % columns) * cell + (gap >> 1);
        for (let p = 0; p < side * side; p++) {
          const grey = 255 - bytes[i * side * side + p];
          pixels[corner + Math.floor(p / side) * canvas.width + (p % side)] = 0xff000000 | (grey * 0x010101);
        }
      }
      context.putImageData(picture, 0, 0);
      canvas.style.imageRendering = canvas.width < width ? "pixelated" : "auto"; // not when it is made smaller
    },
    /** Frame the images with these numbers. */
    frame(numbers, colour) {
      over.attr("viewBox", `0 0 ${columns} ${images.rows}`);
      over.selectAll("rect").data(numbers).join("rect").attr("width", 1).attr("height", 1).attr("fill", "none")
        .attr("stroke", view.colour(colour)).attr("stroke-width", 3).attr("vector-effect", "non-scaling-stroke")
        .attr("x", (i) => i % columns).attr("y", (i) => Math.floor(i / columns));
    },
    /** A ring around a place in units of the whole, each from 0 to 1, from the left and the top. */
    ring([x, y], colour) {
      over.attr("viewBox", "0 0 1 1");
      over.selectAll("circle").data(["var(--halo)", view.colour(colour)]).join("circle").attr("fill", "none")
        .attr("stroke", (stroke) => stroke).attr("stroke-width", (_, i) => (i ? 2.5 : 5)).attr("vector-effect", "non-scaling-stroke")
        .attr("cx", x).attr("cy", y).attr("r", 0.017);
    },
  });
}

/** A panel: an SVG with axes. Its drawing methods take a key, and move what has this key already. */
function makePanel(view, name, { width = 440, height = 320, left = 52, right = 12, legend = [], label = "" }) {
  const holder = make(view.element, "figure", { class: "panel", "data-panel": name, style: `--width: ${width}px; --least: ${0.85 * width}px` });
  const svg = select(holder)
    .append("svg")
    .attr("viewBox", `0 0 ${width} ${height}`)
    .attr("role", "img")
    .attr("aria-label", label);
  const clip = `clip-${name}-${Math.random().toString(36).slice(2)}`;
  const box = { x: left, y: MARGIN.top, w: width - left - right, h: height - MARGIN.top - MARGIN.bottom };
  svg.append("clipPath").attr("id", clip).append("rect").attr("x", box.x).attr("y", box.y).attr("width", box.w).attr("height", box.h);
  const axes = svg.append("g").attr("class", "axes").attr("aria-hidden", "true");
  const marks = svg.append("g").attr("clip-path", `url(#${clip})`);
  const hands = svg.append("g").attr("class", "hands");
  const layers = {};
  const layer = (tag, key, parent = marks) =>
    (layers[key] ??= parent.append(tag).attr("data-key", key).attr("fill", "none"));
  const key = make(holder, "figcaption", { class: "legend" });
  for (const [colour, text, kind] of legend) {
    const entry = make(key, "span", { class: kind ?? "line" }, text);
    entry.dataset.colour = colour;
  }
  svg.on("dblclick", () => view.onReset());
  svg.call(drag().container(svg.node()).subject(nearestHand)
    .on("start", ({ subject }) => subject.hand.focus({ preventScroll: true }))
    .on("drag", (event) => {
      const inside = [Math.min(box.x + box.w, Math.max(box.x, event.x)), Math.min(box.y + box.h, Math.max(box.y, event.y))];
      view.move(select(event.subject.hand).datum().move([panel.x.invert(inside[0]), panel.y.invert(inside[1])]));
    }));

  /** The handle that a press at x, y means: handles may lie close together. */
  function nearestHand({ x, y }) {
    const far = (told) => Math.hypot(told.x - x, told.y - y);
    const all = hands.selectAll(".hand").data();
    return all.filter((told) => far(told) < REACH).sort((a, b) => far(a) - far(b))[0] ?? null;
  }

  const panel = {
    svg, box, view, marks,
    x: scaleLinear().range([box.x, box.x + box.w]),
    y: scaleLinear().range([box.y + box.h, box.y]),
    right: scaleLinear().range([box.y + box.h, box.y]),

    /** Set domains, ticks and labels of the axes, of a second one on the right in its curve's colour, and the title. */
    axes({ x, y, right, title = "" }) {
      for (const entry of key.querySelectorAll("[data-colour]")) entry.style.setProperty("--colour", view.colour(entry.dataset.colour));
      const make = { x: axisBottom, y: axisLeft, right: axisRight };
      const told = JSON.stringify([x, y, right, title, view.dark]);
      if (told === panel.told) return panel;
      panel.told = told;
      for (const [which, axis] of Object.entries({ x, y, ...(right && { right }) })) {
        panel[which].domain(axis.domain);
        const ticks = make[which](panel[which]).tickSizeOuter(0);
        if (axis.ticks) ticks.tickValues(axis.ticks.map(([at]) => at)).tickFormat((_, i) => axis.ticks[i][1]);
        else ticks.ticks(5).tickFormat((v) => written(v, axis.digits ?? 0));
        const grid = axis.grid !== false && which !== "right";
        ticks.tickSizeInner(grid ? (which === "x" ? -box.h : -box.w) : 4).tickPadding(6);
        const group = layers[`axis ${which}`] ?? (layers[`axis ${which}`] = axes.append("g"));
        const place = { x: [0, box.y + box.h], y: [box.x, 0], right: [box.x + box.w, 0] }[which];
        group.attr("transform", `translate(${place})`).call(ticks);
        if (axis.colour) group.selectAll("line, .domain").style("stroke", view.colour(axis.colour)).style("stroke-width", 2);
        if (which === "right") continue;
        const text = layers[`label ${which}`] ?? (layers[`label ${which}`] = axes.append("text").attr("class", "label"));
        if (which === "x") text.attr("x", box.x + box.w / 2).attr("y", height - 4).attr("text-anchor", "middle");
        else text.attr("transform", `translate(13,${box.y + box.h / 2}) rotate(-90)`).attr("text-anchor", "middle");
        text.text(axis.label ?? "");
      }
      const head = layers.title ?? (layers.title = axes.append("text").attr("class", "head").attr("x", 4).attr("y", 18));
      head.text(title);
      return panel;
    },

    /** A curve through (xs, ys). */
    line(name, xs, ys, { colour, width = 2, dash = null, halo = false, by = "y" }) {
      const path = line().x((_, i) => panel.x(xs[i])).y((_, i) => panel[by](ys[i]))(ys);
      if (halo) layer("path", `${name} halo`).attr("class", "halo").attr("stroke-width", width + 3).attr("d", path);
      layer("path", name).attr("stroke", view.colour(colour)).attr("stroke-width", width).attr("stroke-dasharray", dash).attr("d", path);
    },

    /** The area between a curve and zero. */
    area(name, xs, ys, { colour, opacity = 0.5 }) {
      const path = area().x((_, i) => panel.x(xs[i])).y0(panel.y(0)).y1((_, i) => panel.y(ys[i]))(ys);
      layer("path", name).attr("fill", view.colour(colour)).attr("opacity", opacity).attr("d", path);
    },

    /** Pixels (rgba bytes, rows from above) stretched over a rectangle of the axes' units. */
    image(name, rgba, columns, [x0, x1, y0, y1]) {
      const canvas = (panel.canvases ??= {})[name] ?? (panel.canvases[name] = document.createElement("canvas"));
      canvas.width = columns;
      canvas.height = rgba.length / 4 / columns;
      canvas.getContext("2d").putImageData(new ImageData(rgba, columns), 0, 0);
      layer("image", name)
        .attr("x", panel.x(x0)).attr("y", panel.y(y1))
        .attr("width", panel.x(x1) - panel.x(x0)).attr("height", panel.y(y0) - panel.y(y1))
        .attr("preserveAspectRatio", "none").attr("href", canvas.toDataURL());
    },

    /** Closed shapes such as d3-contour gives, in pixels of a grid of `columns` over a rectangle of the axes' units. */
    contours(name, shapes, fill, columns, rows, [x0, x1, y0, y1]) {
      const group = layer("g", name);
      const path = (shape) =>
        shape.coordinates
          .map((polygon) => polygon.map((ring) => `M${ring.map(([i, j]) =>
            `${panel.x(x0 + (i / columns) * (x1 - x0)).toFixed(1)},${panel.y(y0 + (j / rows) * (y1 - y0)).toFixed(1)}`).join("L")}Z`).join(""))
          .join("");
      group.selectAll("path").data(shapes).join("path").attr("fill", (_, i) => fill[i]).attr("d", path);
    },

    /** A horizontal bar around `row` between two numbers. */
    bar(name, row, [from, to], { colour }) {
      const [top, bottom] = [panel.y(row + 0.3), panel.y(row - 0.3)];
      layer("rect", name).attr("fill", view.colour(colour)).attr("y", top).attr("height", bottom - top)
        .attr("x", panel.x(Math.min(from, to))).attr("width", Math.abs(panel.x(to) - panel.x(from)));
    },

    /** Marks at points [x, y]: discs, or stars. */
    dots(name, points, { colour, radius = 5, star = false, by = "y" }) {
      const group = layer("g", name);
      const shape = star ? starPath(1.7 * radius) : discPath(radius);
      group.selectAll("path").data(points).join("path").attr("d", shape).attr("class", "mark")
        .attr("fill", view.colour(colour)).attr("transform", ([x, y]) => `translate(${panel.x(x)},${panel[by](y)})`);
    },

    /** A bar of colours beside the panel's legend, with the values at which one begins. */
    scale(levels, colours, ticks, label) {
      const bar = (panel.legendBar ??= make(key, "span", { class: "scale" }));
      bar.replaceChildren();
      make(bar, "span", {}, label);
      levels.forEach((level, i) => {
        const box = make(bar, "i", { style: `background: ${colours[i]}` });
        if (ticks.includes(level)) make(box, "small", {}, `${level}`);
      });
    },

    /** Read values off under the pointer: `read(x, y)` in the axes' units gives a text, or nothing. */
    hover(read) {
      if (!panel.read) {
        const note = svg.append("text").attr("class", "note hover").attr("text-anchor", "end").attr("x", box.x + box.w).attr("y", 18);
        svg.on("pointermove", (event) => {
          const [x, y] = pointer(event, svg.node());
          const inside = x >= box.x && x <= box.x + box.w && y >= box.y && y <= box.y + box.h;
          note.text(inside ? panel.read(panel.x.invert(x), panel.y.invert(y)) : "");
        });
        svg.on("pointerleave", () => note.text(""));
      }
      panel.read = read;
    },

    /** A text at a point. */
    text(name, [x, y], text, { anchor = "start", dx = 0, dy = 0 } = {}) {
      layer("text", name).attr("class", "note").attr("fill", null).attr("text-anchor", anchor)
        .attr("x", panel.x(x) + dx).attr("y", panel.y(y) + dy).text(text);
    },

    /**
     * A handle at `at` ([x, y] in the axes' units): dragged by mouse or finger, or moved by arrow keys in steps `by`,
     * it calls `move([x, y])`, which returns what changes in the state.
     */
    handle(name, { at, by, label, colour, move, said }) {
      const found = layers[`hand ${name}`];
      const hand = found ?? (layers[`hand ${name}`] = hands.append("g").attr("class", "hand").attr("tabindex", 0).attr("role", "slider"));
      if (!found) {
        hand.append("circle").attr("class", "reach").attr("r", REACH);
        hand.append("circle").attr("class", "grip").attr("r", 7);
        svg.attr("role", "group");
        hand.on("keydown", (event) => {
          const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
          if (!way) return;
          event.preventDefault();
          event.stopPropagation(); // JupyterLab would go to the next cell
          const told = hand.datum(), much = event.shiftKey ? 5 : 1;
          view.move(told.move([told.at[0] + much * way[0] * told.by[0], told.at[1] + much * way[1] * told.by[1]]));
        });
        hand.attr("data-lm-suppress-shortcuts", "true");
      }
      hand.datum({ hand: hand.node(), at, by, move, x: panel.x(at[0]), y: panel.y(at[1]) })
        .attr("transform", `translate(${panel.x(at[0])},${panel.y(at[1])})`)
        .attr("aria-label", label).attr("aria-valuetext", said).attr("aria-valuenow", at[0]);
      hand.select(".grip").attr("fill", view.colour(colour));
    },
  };
  return panel;
}

const discPath = (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`;
const starPath = (r) =>
  `M${[...Array(10).keys()]
    .map((i) => [(i % 2 ? 0.42 : 1) * r, (Math.PI * i) / 5])
    .map(([d, angle]) => `${(d * Math.sin(angle)).toFixed(2)},${(-d * Math.cos(angle)).toFixed(2)}`)
    .join("L")}Z`;
