// The stage: mounts a widget on a host. The host gives `model` (get, set, save_changes, on, send: anywidget's contract)
// and an element; the widget gives `compute(state, spec)` and `draw(view, numbers, state, spec)`, and for what needs no
// numbers `preview(view, state, spec)`; all names, ranges, grids, colours and words come from Python in one `spec`.

import { axisBottom, axisLeft, axisRight } from "d3-axis";
import { drag } from "d3-drag";
import { scaleLinear, scaleLog } from "d3-scale";
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

/** The control of this name. */
export const controlOf = (spec, name) => spec.controls.find((control) => control.name === name);

/** The value of a range nearest to a number that it can take. */
export function within(control, value) {
  const steps = Math.round((value - control.low) / control.step);
  const digits = Math.max(0, Math.ceil(-Math.log10(control.step) - 1e-9) + 1);
  return Math.min(control.high, Math.max(control.low, Number((control.low + steps * control.step).toFixed(digits))));
}

/** Values as near to the given ones as the ranges allow, in their steps; with `step` 0 in none. */
export function nearest(values, spec, step = 1) {
  const inside = ([name, value]) => {
    const control = controlOf(spec, name);
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
    } else if (control.kind === "bitmap") {
      const digits = control.side ** 2 / 4;
      if (!(value?.length === digits && /^[0-9a-f]*$/.test(value))) throw new RangeError(`${name}: ${digits} hexadecimal digits are needed`);
    } else if (typeof value !== "number" || !(control.low <= value && value <= control.high)) {
      throw new RangeError(`${name} = ${value} is out of range; allowed: ${control.low} to ${control.high}`);
    } else if (control.digits === 0 && !Number.isInteger(value)) {
      throw new RangeError(`${name} = ${value}; a whole number is needed, ${control.low} to ${control.high}`);
    }
  }
}

const oneOf = (list, random = Math.random) => list[Math.floor(random() * list.length)];

/** A random state from what the spec says of surprises: an interval or a list for each of some controls. */
export function surprise(spec, random = Math.random) {
  const values = {};
  for (const control of spec.controls) {
    const among = spec.surprise[control.name];
    if (!among) continue;
    values[control.name] =
      control.kind === "range"
        ? within(control, among[0] + random() * (among[1] - among[0]))
        : oneOf(among, random);
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
const SLOW = 400; // milliseconds, from which on a computation is worth a word
const PATIENCE = 2500; // milliseconds without a word from the kernel

/**
 * What a kernel answers: one request at a time, the newest waits, older ones are dropped; what was answered before is
 * known at once. `told` is called whenever there is something new to show.
 */
function kernelSource(model, sprites, spec, told) {
  const known = new Map();
  for (const { state, numbers } of sprites) known.set(keyOf(state, spec), unpacked(numbers));
  const fixed = known.size;
  let number = Math.floor(Math.random() * 2 ** 31); // of the last request; two pages of one kernel differ
  let asked = null; // the request under way
  let waiting = null;
  let failed = null;
  const halted = new Set(); // keys of computations that were stopped: what is known of them is not the whole
  let timers = [];
  const source = {
    alive: typeof model.send === "function" && !model.plain,
    gone: false, // the last request could not be sent
    begun: false, // the kernel works on the request under way
    slow: false, // the request has been under way for a while
    silent: false, // no word on the request under way
    share: 0, // of it that is done
    numbers: (state) => known.get(keyOf(state, spec)) ?? (asked?.key === keyOf(state, spec) ? asked.partial : null),
    halted: (state) => halted.has(keyOf(state, spec)),
    failure: (state) => (failed?.key === keyOf(state, spec) ? failed.error : null),
    sprite: (state) => sprites.findIndex((other) => keyOf(other.state, spec) === keyOf(state, spec)),
    ask(state) {
      const key = keyOf(state, spec);
      waiting = null;
      if (!source.alive || known.has(key) || asked?.key === key || failed?.key === key) return;
      if (asked) waiting = state;
      else send(state, key);
    },
    /** Let a state be asked again if that failed or was stopped. */
    forget(state) {
      failed = null;
      if (halted.delete(keyOf(state, spec))) known.delete(keyOf(state, spec));
    },
    stop() {
      waiting = null;
      if (asked) model.send({ stop: asked.number });
    },
    leave() {
      settle();
      model.off("change:answer", heard);
      model.off("comm_live_update", parted);
    },
  };
  function send(state, key) {
    settle();
    asked = { key, number: ++number, partial: null };
    failed = null;
    timers = [["slow", SLOW], ["silent", PATIENCE]].map(([what, after]) => setTimeout(() => told((source[what] = true)), after));
    try {
      model.send({ number, state });
      source.gone = false;
    } catch {
      settle();
      source.gone = true;
    }
  }
  function settle() {
    timers.forEach(clearTimeout);
    asked = null;
    Object.assign(source, { begun: false, slow: false, silent: false, share: 0 });
  }
  /** Keep an answer, of a computation that was stopped or came to its end; forget the oldest of too many. */
  function keep(key, numbers, stopped) {
    known.set(key, numbers);
    if (stopped) halted.add(key);
    else halted.delete(key);
    if (known.size > fixed + KEPT) known.delete([...known.keys()][fixed]);
  }
  function heard() {
    const { number: of, share, state, numbers, error, stopped } = model.get("answer");
    if (asked?.number !== of) { // of another view, or of an older request
      if (share === 1 && numbers) told(keep(keyOf(state, spec), unpacked(numbers)));
      return;
    }
    clearTimeout(timers[1]); // it has begun: it may take as long as it does
    Object.assign(source, { begun: true, silent: false, share });
    if (numbers) asked.partial = unpacked(numbers);
    if (share === 1) {
      const bad = error ?? (stopped && !asked.partial && "stopped before there was anything to show");
      if (bad) failed = { key: asked.key, error: Object.assign(new Error(bad), { name: "In the kernel" }) };
      else keep(asked.key, asked.partial, stopped);
      settle();
      if (waiting) source.ask(waiting);
    }
    told();
  }
  /** The kernel was restarted or the connection lost: nobody answers the request under way. */
  function parted() {
    if (!asked) return;
    settle();
    source.gone = true;
    told();
  }
  model.on("change:answer", heard);
  model.on("comm_live_update", parted);
  return source;
}

/** What the kernel's numbers depend on in a state. */
const keyOf = (state, spec) => JSON.stringify(spec.kernel.of.map((name) => state[name]));

/** How many different numbers the kernel can give. */
const variety = (spec) => spec.kernel.of.reduce((product, name) => product * optionsOf(controlOf(spec, name)), 1);
const optionsOf = ({ kind, low, high, step, options }) =>
  ({ range: Math.round((high - low) / step) + 1, choice: options?.length, switch: 2, bitmap: Infinity })[kind];

// Mounting -----------------------------------------------------------------------------------------------------------

/**
 * Mount the widget that `model` describes into `el`; return what takes it away. `parts`: the model that holds its
 * spec, assets and sprites. `widgets`: name → module.
 */
export function mount({ model, el, parts = model }, widgets) {
  const spec = { ...parts.get("spec"), assets: parts.get("assets") };
  const sprites = parts.get("sprites");
  const widget = widgets[spec.name];
  const root = make(el, "div", { class: "stage", "data-widget": spec.name });
  make(root, "style").textContent = style;
  make(root, "b", { class: "title" }, spec.title);
  const frame = make(root, "div", { class: "controls" });
  const switches = make(root, "div", { class: "switches" });
  const row = make(root, "div", { class: "buttons" });
  const readout = make(root, "output", { "aria-live": "polite" });
  const box = make(root, "div", { class: "error", role: "alert", hidden: "" });
  const source = spec.kernel && kernelSource(model, sprites, spec, ask);
  const news = source && sprites.length < variety(spec) && makeNews(root, sprites, spec, change);
  const view = makeView(make(root, "div", { class: "view", role: "group", "aria-label": spec.alt }), spec, change);
  const controls = spec.controls.filter(({ hidden }) => !hidden)
    .map((control) => makeControl(control.kind === "switch" ? switches : frame, control, change));
  if (spec.kernel?.press) {
    button(spec.kernel.press, () => {
      wanted = true;
      source.forget(model.get("state"));
      source.ask(model.get("state"));
      ask();
    });
  }
  button("Reset", () => change(spec.start, {}));
  button("Surprise me", () => change(source?.alive === false ? oneOf(sprites).state : surprise(spec)));
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
    wanted = false;
    model.set("state", { ...from, ...values });
    model.save_changes();
    ask();
  }

  let wanted = false; // the button that asks the kernel was pressed for this state
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
      widget.preview?.(view, state, spec);
      const numbers = source ? fromKernel(state) : widget.compute(state, spec);
      box.hidden = true;
      if (!numbers) return;
      widget.draw(view, numbers, state, spec);
      clearTimeout(said);
      said = setTimeout(() => tell(numbers, state), readout.textContent ? 150 : 0);
      root.dataset.drawn = Number(root.dataset.drawn ?? 0) + 1;
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

  /**
   * The kernel's numbers for a state, or those so far; else none, and the last picture stays, or the first sprite's
   * where nothing was drawn, with news why.
   */
  function fromKernel(state) {
    if (!spec.kernel.press) source.ask(state);
    const numbers = source.numbers(state);
    if (news) news(source, state, !numbers, wanted);
    if (source.failure(state)) throw source.failure(state);
    return numbers ?? (root.dataset.drawn || !spec.kernel.press ? null : source.numbers(sprites[0].state));
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

  function colour() {
    view.dark = isDark();
    root.classList.toggle("dark", view.dark);
  }

  function recolour() {
    colour();
    ask();
  }

  /** A plain key in a widget is the widget's, not JupyterLab's, whose arrows fold the notebook; Ctrl+S stays its own. */
  function claim(event) {
    const plain = !event.ctrlKey && !event.metaKey && !event.altKey && !(event.shiftKey && event.key === "Enter");
    if (root.contains(event.target)) event.target.toggleAttribute("data-lm-suppress-shortcuts", plain);
  }

  window.addEventListener("keydown", claim, true); // before JupyterLab, which listens at the document
  const watcher = new MutationObserver(recolour);
  watcher.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  watcher.observe(document.documentElement, { attributes: true, attributeFilter: ["theme"] });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", recolour);
  model.on("change:state", ask);
  colour();
  follow();

  return () => {
    window.removeEventListener("keydown", claim, true);
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

/** Say below the buttons how far the kernel is, that it is silent, or which states need none: returns what says it. */
function makeNews(root, sprites, { kernel }, change) {
  const place = make(root, "div", { class: "news" });
  const text = make(place, "span", { role: "status" });
  const bar = make(place, "progress", { max: 1, "aria-label": "share computed" });
  const stop = make(place, "button", { type: "button" }, "Stop");
  const list = make(place, "select", { "aria-label": "computed beforehand" });
  make(list, "option", { disabled: "", hidden: "" }, "choose …");
  for (const { title } of sprites) make(list, "option", {}, title);
  list.addEventListener("change", () => change(sprites[list.selectedIndex - 1].state));
  return (source, state, missing, wanted) => {
    let words = "";
    const last = "The picture shows the last state that was computed";
    const takes = wanted ? kernel.press : missing && `${last}: this one`;
    if (!source.alive) words = `${takes ? `${takes} takes a kernel, which a page has not. ` : ""}Computed beforehand:`;
    else if (source.gone) words = "The kernel is gone: run the cell again. Computed beforehand:";
    else if (source.silent) words = "The kernel is silent: it is busy with another cell, or gone. Computed beforehand:";
    else if (source.slow) words = source.begun ? "The kernel computes …" : "Waiting for the kernel …";
    else if (source.halted(state)) words = "Stopped: the picture shows how far it came. Computed beforehand:";
    else if (kernel.press) words = `${missing ? `${last}: for this one press ${kernel.press}. ` : ""}Computed beforehand:`;
    if (text.textContent !== words) text.textContent = words;
    bar.hidden = !source.slow || !source.begun;
    bar.value = source.share;
    stop.hidden = !kernel.press || bar.hidden;
    stop.onclick = source.stop;
    list.hidden = source.alive && !source.gone && !source.silent && (!kernel.press || source.slow);
    list.selectedIndex = source.sprite(state) + 1;
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
    label.prepend(box);
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
      value.textContent = control.names[state[control.name]] ?? `${written(state[control.name], control.digits)} ${control.unit}`.trim();
      range.setAttribute("aria-valuetext", value.textContent);
    },
  };
}

/** A button that steps a range to its end; one step a press for who wants no motion. */
function makePlayer(label, control, range, change) {
  const button = make(label, "button", { type: "button", class: "play" });
  label.classList.add("played");
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = 0;
  const show = () => {
    button.textContent = timer ? "❚❚" : "▶";
    button.setAttribute("aria-label", `${timer ? "Pause" : still.matches ? "Next" : "Play"}: ${control.label}`);
  };
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    show();
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
    if (!still.matches) timer = setInterval(step, control.play);
    step();
    return show();
  });
  range.addEventListener("pointerdown", stop);
  range.addEventListener("keydown", stop);
  show();
  return { stop };
}

// Drawing ------------------------------------------------------------------------------------------------------------

const MARGIN = { top: 34, bottom: 40 };
const REACH = 16; // of a finger around a handle

/** What a widget draws on: panels by name, colours of the page's scheme, and a way to change the state. */
function makeView(element, spec, change) {
  const panels = {};
  const piles = {};
  return {
    element,
    /** Where panels go: side by side, or those of one pile below each other. */
    place: (pile) => (pile ? (piles[pile] ??= make(element, "div", { class: "pile" })) : element),
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
function makeImages(view, name, { width = 440, least = 0.85 * width, columns, gap = 2, label = "", pick = null }) {
  const holder = make(view.element, "figure", { class: "panel images", "data-panel": name, style: `--width: ${width}px; --least: ${least}px` });
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
      if (bytes === images.shown) return;
      images.shown = bytes;
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
      canvas.style.imageRendering = 2 * canvas.width < width ? "pixelated" : "auto"; // else its pixels would differ in size
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
function makePanel(view, name, { width = 440, height = 320, left = 52, right = 12, legend = [], label = "", pile = "" }) {
  const holder = make(view.place(pile), "figure", { class: "panel", "data-panel": name, style: `--width: ${width}px; --least: ${0.85 * width}px` });
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
  const key = make(holder, "figcaption", { class: "legend", style: `padding-left: ${left}px` });
  for (const [colour, text, kind] of legend) {
    const entry = make(key, "span", { class: kind ?? "line" }, text);
    entry.dataset.colour = colour;
  }
  svg.on("dblclick", () => view.onReset());
  const bounded = (v, low, high) => Math.min(high, Math.max(low, v));
  /** A place of the drawing in the axes' units; one outside of them at their edge. */
  const inside = ([x, y]) =>
    [panel.x.invert(bounded(x, box.x, box.x + box.w)), panel.y.invert(bounded(y, box.y, box.y + box.h))];
  svg.call(drag().container(svg.node()).subject(nearestHand)
    .on("start", ({ subject }) => subject.hand.focus({ preventScroll: true }))
    .on("drag", ({ subject, x, y }) => view.move(select(subject.hand).datum().move(inside([x, y])))));

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
        if (axis.log) panel[which] = scaleLog().range(panel[which].range());
        panel[which].domain(axis.domain);
        const ticks = make[which](panel[which]).tickSizeOuter(0);
        if (axis.ticks) ticks.tickValues(axis.ticks.map(([at]) => at)).tickFormat((_, i) => axis.ticks[i][1]);
        else if (axis.log) ticks.tickFormat(panel[which].tickFormat(5, (v) => `${v}`));
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

    /** Many curves as one path: of each its numbers x, y, x, y, … */
    lines(name, curves, { colour, width = 1, opacity = 1, dash = null }) {
      const at = (v) => v.toFixed(1);
      const way = (points) => {
        let text = "";
        for (let i = 0; i < points.length; i += 2) text += `${i ? "L" : "M"}${at(panel.x(points[i]))},${at(panel.y(points[i + 1]))}`;
        return text;
      };
      layer("path", name).attr("d", curves.map(way).join("")).attr("stroke", view.colour(colour)).attr("stroke-width", width)
        .attr("opacity", opacity).attr("stroke-dasharray", dash);
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

    /**
     * Many small dots at points (x and y in turn) in the colours `shades`, on a canvas below all else: it is not
     * painted again while they stay where they are, whatever moves above.
     */
    scatter(points, shades, { radius = 1.9, opacity = 0.8 } = {}) {
      const told = [points, shades, ...panel.x.domain(), ...panel.y.domain(), view.dark];
      if (panel.scattered?.every((part, i) => part === told[i])) return;
      panel.scattered = told;
      const canvas = (panel.canvas ??= Object.assign(document.createElement("canvas"), { width: 2 * width, height: 2 * height }));
      if (!canvas.parentNode) holder.prepend(canvas);
      const context = canvas.getContext("2d");
      context.setTransform(2, 0, 0, 2, 0, 0); // two pixels a unit, for dense screens
      context.clearRect(0, 0, width, height);
      context.save();
      context.beginPath();
      context.rect(box.x, box.y, box.w, box.h);
      context.clip();
      context.globalAlpha = opacity;
      for (let i = 0; i < shades.length; i++) {
        context.fillStyle = view.colour(shades[i]);
        context.beginPath();
        context.arc(panel.x(points[2 * i]), panel.y(points[2 * i + 1]), radius, 0, 7);
        context.fill();
      }
      context.restore();
    },

    /** Call `move([x, y])` where the ground is pressed, and on as the mouse is dragged; it says what changes in the state. */
    press(move) {
      if (!panel.pressed) {
        const ground = svg.insert("rect", ".hands").attr("class", "ground").attr("x", box.x).attr("y", box.y).attr("width", box.w).attr("height", box.h);
        const go = (event) => view.move(panel.pressed(inside(pointer(event, svg.node()))));
        ground.on("click", go); // of a finger too: it may also scroll the page
        ground.call(drag().filter((event) => event.type === "mousedown" && !event.button).on("start drag", ({ sourceEvent }) => go(sourceEvent)));
      }
      panel.pressed = move;
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

    /** An upright bar from zero, around a place on the x axis. */
    upright(name, at, height, { colour, width = 0.7 }) {
      layer("rect", name).attr("fill", view.colour(colour)).attr("y", panel.y(height)).attr("height", panel.y(0) - panel.y(height))
        .attr("x", panel.x(at - width / 2)).attr("width", panel.x(at + width / 2) - panel.x(at - width / 2));
    },

    /** Many small dots, as one path: numbers x, y, x, y, … */
    cloud(name, points, { colour, radius = 1.5, opacity = 1 }) {
      const at = [];
      for (let i = 0; i < points.length; i += 2) at.push(`M${panel.x(points[i]).toFixed(1)},${panel.y(points[i + 1]).toFixed(1)}h0`);
      layer("path", name).attr("d", at.join("")).attr("stroke", view.colour(colour)).attr("stroke-width", 2 * radius)
        .attr("stroke-linecap", "round").attr("opacity", opacity);
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
          const over = x >= box.x && x <= box.x + box.w && y >= box.y && y <= box.y + box.h;
          note.text(over ? panel.read(panel.x.invert(x), panel.y.invert(y)) : "");
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
     * it calls `move([x, y])`, which returns what changes in the state. `letter` stands on it.
     */
    handle(name, { at, by, label, colour, move, said, letter = "" }) {
      const found = layers[`hand ${name}`];
      const hand = found ?? (layers[`hand ${name}`] = hands.append("g").attr("class", "hand").attr("tabindex", 0).attr("role", "slider"));
      if (!found) {
        hand.append("circle").attr("class", "reach").attr("r", REACH);
        hand.append("circle").attr("class", "grip").attr("r", letter ? 9 : 7);
        if (letter) hand.append("text").attr("class", "letter").attr("text-anchor", "middle").attr("dy", "0.36em").text(letter);
        svg.attr("role", "group");
        hand.on("keydown", (event) => {
          const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
          if (!way) return;
          event.preventDefault();
          const told = hand.datum(), much = event.shiftKey ? 5 : 1;
          view.move(told.move([told.at[0] + much * way[0] * told.by[0], told.at[1] + much * way[1] * told.by[1]]));
        });
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
