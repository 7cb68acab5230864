// The front end of W-manifold, an anywidget. The kernel decodes: this page sends where the pointer is and draws bytes.
// First what any 2-D pad needs, then this pad. No imports: it must work in JupyterLab and in Colab, with no network.

// Generic ------------------------------------------------------------------------------------------------------------

/** Make an element with attributes inside a parent; `space` is the namespace of SVG or, by default, of HTML. */
function make(parent, tag, attributes = {}, space = "http://www.w3.org/1999/xhtml") {
  const element = document.createElementNS(space, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent.append(element);
  return element;
}

/** The bytes of a DataView as a typed array. They are copied: a view may begin where no float may. */
function typed(type, view) {
  return new type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
}

/**
 * Draw square grey images (bytes, 255 is ink on white) on a canvas, `columns` to a row, with an even `gap` between them
 * and half of it around; of no images an empty row.
 */
function drawImages(canvas, bytes, side, columns, gap = 0) {
  const count = bytes.length / side ** 2;
  const cell = side + gap;
  canvas.width = columns * cell;
  canvas.height = Math.ceil(Math.max(count, 1) / columns) * cell;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  for (let i = 0; i < count; i++) {
    for (let p = 0; p < side ** 2; p++) {
      const grey = 255 - bytes[i * side ** 2 + p];
      image.data.set([grey, grey, grey, 255], 4 * p);
    }
    context.putImageData(image, (i % columns) * cell + gap / 2, Math.floor(i / columns) * cell + gap / 2);
  }
}

/**
 * Send only the newest request, one at a time: while one is under way the newest waits and older ones are dropped, so
 * no queue builds up in a busy kernel. A request without an answer holds the others up for `patience` ms at most.
 */
function newestOnly(send, patience = 5000) {
  let sent = -Infinity; // when the request under way was sent
  const requests = {
    waiting: null,
    ask(request) {
      if (performance.now() - sent < patience) {
        requests.waiting = request;
        return;
      }
      sent = performance.now();
      requests.waiting = null;
      send(request);
    },
    answered() {
      sent = -Infinity;
      if (requests.waiting) requests.ask(requests.waiting);
    },
  };
  return requests;
}

// This pad -----------------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
const SIZE = 400; // units of the plane's drawing
const EDGE = 26; // of them for the tick labels, below and on the left
const INK = "#222222";
const POINTER = "#D55E00";

// White ground in light and dark themes, like all figures of the course.
const STYLE = `
.latent-pad { container-type: inline-size; box-sizing: border-box; padding: 8px 10px 10px; background: white;
  color: ${INK}; font: 13px/1.35 system-ui, sans-serif; border-radius: 4px; }
.latent-pad * { box-sizing: border-box; }
.latent-pad .row { display: grid; grid-template-columns: 42fr 20fr 38fr; gap: 6px 16px; align-items: start; }
.latent-pad .caption { min-height: 1.4em; font-size: 12px; color: #555555; }
.latent-pad .caption b { color: ${INK}; }
.latent-pad canvas, .latent-pad svg { display: block; width: 100%; }
.latent-pad .plane, .latent-pad .manifold { position: relative; }
.latent-pad .plane { aspect-ratio: 1; cursor: crosshair; touch-action: none; user-select: none; border-radius: 3px; }
.latent-pad .plane:focus { outline: 3px solid #0072B2; outline-offset: 1px; }
.latent-pad .plane > *, .latent-pad .manifold > svg { position: absolute; inset: 0; height: 100%; }
.latent-pad .manifold > svg { pointer-events: none; overflow: visible; }
.latent-pad .pixels { image-rendering: pixelated; border: 1px solid #cccccc; cursor: pointer; }
.latent-pad .image { cursor: default; }
.latent-pad .strip { background: #f4f4f4; }
.latent-pad output { display: block; margin-top: 6px; font-variant-numeric: tabular-nums; white-space: pre-line; }
.latent-pad .legend { display: flex; flex-wrap: wrap; gap: 0 9px; font-size: 12px; }
.latent-pad .legend span::before { content: "●"; color: var(--colour); margin-right: 2px; }
.latent-pad .film { margin-top: 8px; }
@container (max-width: 620px) {
  .latent-pad .row { grid-template-columns: 1fr 2fr; }
  .latent-pad .row > :first-child { grid-column: 1 / 3; }
}`;

function render({ model, el }) {
  const root = make(el, "div", { class: "latent-pad" });
  make(root, "style").textContent = STYLE;
  const row = make(root, "div", { class: "row" });
  const [left, middle, right] = [0, 1, 2].map(() => make(row, "div"));

  const scale = make(left, "div", { class: "caption" });
  const plane = make(left, "div", {
    class: "plane",
    tabindex: 0,
    role: "application",
    "aria-label": "Latent plane. Arrow keys move z, with Shift faster; Enter sets A, then B; Escape clears the path.",
    "data-lm-suppress-shortcuts": "true", // JupyterLab must not take our arrow keys for "next cell"
  });
  const dots = make(plane, "canvas", { class: "dots", width: 2 * SIZE, height: 2 * SIZE });
  const drawing = make(plane, "svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, "aria-hidden": "true" }, SVG);
  const [ground, trace, names, pointer] = [0, 1, 2, 3].map(() => make(drawing, "g", {}, SVG)); // from below
  const legend = make(left, "div", { class: "legend" });

  make(middle, "div", { class: "caption" }).innerHTML = "<b>decoded</b> at z";
  const image = make(middle, "canvas", { class: "pixels image", role: "img" });
  const text = make(middle, "output", { "aria-live": "polite" });

  const law = make(right, "div", { class: "caption" });
  const manifold = make(right, "div", { class: "manifold" });
  const grid = make(manifold, "canvas", { class: "pixels grid", role: "img", "aria-label": "Decoded manifold" });
  const over = make(manifold, "svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" }, SVG);
  const here = { r: 0.017, fill: "none", "vector-effect": "non-scaling-stroke" };
  const rings = ["white", POINTER].map((stroke, i) =>
    make(over, "circle", { ...here, stroke, "stroke-width": i ? 2.5 : 5 }, SVG),
  );

  const film = make(root, "div", { class: "film" });
  const route = make(film, "div", { class: "caption" });
  const strip = make(film, "canvas", { class: "pixels strip", role: "img" });

  // From z to the drawing and back. The plane is drawn in a square that leaves EDGE for tick labels.
  const half = () => model.get("scene").half;
  const unit = () => (SIZE - EDGE) / (2 * half());
  const toX = (z) => EDGE + (z + half()) * unit();
  const toY = (z) => (half() - z) * unit();
  const inside = (z) => Math.max(-half(), Math.min(half(), z));
  const zAt = (event) => {
    const box = plane.getBoundingClientRect();
    const [x, y] = [(SIZE * (event.clientX - box.left)) / box.width, (SIZE * (event.clientY - box.top)) / box.height];
    return [inside((x - EDGE) / unit() - half()), inside(half() - y / unit())];
  };

  // What the reader does
  let z = model.get("point").z; // of the pointer, ahead of the picture by one answer
  const moves = newestOnly((point) => model.send({ do: "set", state: { z: point } }));
  const move = (point) => {
    z = point;
    drawPointer();
    moves.ask(point);
  };
  const mark = (point) => model.send({ do: "mark", z: point });

  let pressed = null; // where a click, or a drag, began
  plane.addEventListener("pointermove", (event) => move(zAt(event)));
  plane.addEventListener("pointerdown", (event) => {
    pressed = event;
    plane.setPointerCapture(event.pointerId);
    plane.focus({ preventScroll: true });
    move(zAt(event));
  });
  plane.addEventListener("pointerup", (event) => {
    if (pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) < 5) mark(zAt(event));
    pressed = null;
  });
  plane.addEventListener("keydown", (event) => {
    const step = (event.shiftKey ? 0.1 : 0.02) * half();
    const arrows = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in arrows) move(z.map((v, i) => inside(v + arrows[event.key][i])));
    else if (event.key === "Enter") mark(z);
    else if (event.key === "Escape") model.send({ do: "clear" });
    else return; // Tab must leave the plane
    event.preventDefault();
    event.stopPropagation();
  });
  grid.addEventListener("click", (event) => {
    const { axis, columns } = model.get("scene");
    const cell = (offset, length) => Math.min(columns - 1, Math.floor((columns * offset) / length));
    const down = cell(event.offsetY, grid.clientHeight);
    move([axis[cell(event.offsetX, grid.clientWidth)], axis[columns - 1 - down]]);
  });
  strip.addEventListener("click", (event) => {
    const { stops } = model.get("path");
    if (stops.length) move(stops[Math.min(stops.length - 1, Math.floor((stops.length * event.offsetX) / strip.clientWidth))]);
  });

  // What is drawn
  const label = (parent, x, y, words, more = {}) => {
    const attributes = { x, y, "text-anchor": "middle", "dominant-baseline": "central", "font-size": 11, fill: INK };
    make(parent, "text", { ...attributes, ...more }, SVG).textContent = words;
  };

  function drawScene() {
    const scene = model.get("scene");
    scale.innerHTML = "<b>codes</b> of test images, ";
    scale.append(scene.note);
    law.innerHTML = `<b>manifold</b>: z = Φ⁻¹(u), u on a ${scene.columns} × ${scene.columns} grid`;
    plane.setAttribute("aria-roledescription", `latent plane of ${scene.label}, ${scene.note}`);
    drawDots(scene);
    ground.replaceChildren();
    names.replaceChildren();
    const frame = { x: EDGE, y: 0, width: SIZE - EDGE, height: SIZE - EDGE, fill: "none", stroke: "#cccccc" };
    make(ground, "rect", frame, SVG);
    for (const tick of scene.ticks) {
      const name = String(tick).replace("-", "−");
      label(ground, Math.min(toX(tick), SIZE - 8), SIZE - EDGE + 12, name);
      label(ground, EDGE - 5, Math.max(toY(tick), 6), name, { "text-anchor": "end" });
    }
    for (const radius of [1, 2]) {
      const circle = { cx: toX(0), cy: toY(0), r: radius * unit(), fill: "none", stroke: INK, "stroke-width": 1.2 };
      make(ground, "circle", { ...circle, "stroke-dasharray": radius === 1 ? "none" : "5 4" }, SVG);
      const halo = { "paint-order": "stroke", stroke: "white", "stroke-width": 3 };
      if (radius * unit() > 20) label(ground, ...freePlace(radius * unit() + 9, scene.names), `${radius}σ`, halo);
    }
    const bold = { "font-size": 17, "font-weight": 700, "paint-order": "stroke", stroke: "white", "stroke-width": 4 };
    for (const [name, x, y] of scene.names) label(names, toX(x), toY(y), name, bold);
    legend.replaceChildren();
    scene.colours.forEach((colour, digit) => {
      if (colour) make(legend, "span", { style: `--colour: ${colour}` }).textContent = digit;
    });
    const bytes = typed(Uint8Array, scene.grid);
    drawImages(grid, bytes, scene.side, scene.columns, scene.gap);
    grid.style.imageRendering = grid.width < 300 ? "pixelated" : "auto"; // not when it is made smaller
    drawPath();
    drawPointer();
  }

  /** The place on a circle around the origin that is farthest from all names: straight above it, if that is free. */
  function freePlace(radius, taken) {
    const turns = [0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6, 7, -7, 8].map((i) => (i * Math.PI) / 8);
    const places = turns.map((turn) => [toX(0) + radius * Math.sin(turn), toY(0) - radius * Math.cos(turn)]);
    const room = ([x, y]) => Math.min(26, ...taken.map((name) => Math.hypot(x - toX(name[1]), y - toY(name[2]))));
    return places.reduce((best, place) => (room(place) > room(best) ? place : best));
  }

  function drawDots({ codes, classes, colours }) {
    const [places, digits] = [typed(Float32Array, codes), typed(Uint8Array, classes)];
    const context = dots.getContext("2d");
    context.setTransform(2, 0, 0, 2, 0, 0); // two pixels a unit, for dense screens
    context.clearRect(0, 0, SIZE, SIZE);
    context.save();
    context.beginPath();
    context.rect(EDGE, 0, SIZE - EDGE, SIZE - EDGE);
    context.clip();
    context.globalAlpha = 0.75;
    digits.forEach((digit, i) => {
      context.fillStyle = colours[digit];
      context.beginPath();
      context.arc(toX(places[2 * i]), toY(places[2 * i + 1]), 1.9, 0, 7);
      context.fill();
    });
    context.restore();
  }

  function drawPath() {
    const path = model.get("path");
    trace.replaceChildren();
    const points = path.line.map(([x, y]) => `${toX(x)},${toY(y)}`).join(" ");
    for (const [stroke, width] of [["white", 5], [INK, 2]])
      make(trace, "polyline", { points, fill: "none", stroke, "stroke-width": width, "stroke-linejoin": "round" }, SVG);
    for (const [x, y] of path.stops.slice(1, -1))
      make(trace, "circle", { cx: toX(x), cy: toY(y), r: 3, fill: INK, stroke: "white" }, SVG);
    for (const [name, end] of [["A", path.a], ["B", path.b]]) {
      if (!end) continue;
      const [cx, cy] = seen(end);
      make(trace, "circle", { cx, cy, r: 9, fill: "white", stroke: INK, "stroke-width": 1.5 }, SVG);
      label(trace, cx, cy, name, { "font-weight": 700 });
    }
    route.innerHTML = "<b>path</b>: ";
    route.append(path.text);
    strip.setAttribute("aria-label", `Decoded images ${path.text}`);
    drawImages(strip, typed(Uint8Array, path.strip), model.get("scene").side, path.frames, 2);
  }

  /** Where a point is drawn: one that lies off the plane, just inside its edge. */
  const seen = (point) => {
    const [x, y] = point.map((v) => (Math.abs(v) > half() ? 0.96 * inside(v) : v));
    return [toX(x), toY(y)];
  };

  function drawPointer() {
    pointer.replaceChildren();
    const [cx, cy] = seen(z);
    for (const [stroke, width] of [["white", 5], [POINTER, 2.5]])
      make(pointer, "circle", { cx, cy, r: 6, fill: "none", stroke, "stroke-width": width }, SVG);
  }

  function drawPoint() {
    const point = model.get("point");
    if (!moves.waiting) z = point.z; // else the pointer is already elsewhere
    drawPointer();
    drawImages(image, typed(Uint8Array, point.image), model.get("scene").side, 1);
    image.setAttribute("aria-label", `Decoded image at ${point.text[0]}`);
    text.textContent = point.text.join("\n");
    for (const ring of rings) {
      ring.setAttribute("cx", point.corner[0]);
      ring.setAttribute("cy", 1 - point.corner[1]);
    }
  }

  const listeners = { scene: drawScene, path: drawPath, point: drawPoint, answers: moves.answered };
  for (const [name, listener] of Object.entries(listeners)) model.on(`change:${name}`, listener);
  drawScene();
  drawPoint();
  return () => Object.entries(listeners).forEach(([name, listener]) => model.off(`change:${name}`, listener));
}

export default { render };
