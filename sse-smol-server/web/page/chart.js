// A chart of the numbers in events over the time of their arrival, with marks for reconnections and
// gaps.

import { parse } from "./json.js";
import { element } from "./rows.js";

const SVG = "http://www.w3.org/2000/svg";
const MAX_SERIES = 5;
/** The maximum number of points of a series. */
const MAX_POINTS = 600;
/** The shortest time axis in milliseconds, so that the first points are not spread over all of it. */
const MIN_SPAN = 10_000;
/** The shortest line that is shown, in milliseconds. */
const MIN_LENGTH = 500;
/** The distances of ticks on the time axis, in seconds. */
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400];
/** The width of a label of the time axis with the space around it, in CSS pixels. */
const TICK_WIDTH = 84;
const HEIGHT = 150;
const TOP = 16;
const BOTTOM = HEIGHT - 20;
/** The space at the right for the dots of the newest values. */
const RIGHT = 6;
/** The width of a digit in the labels of values. */
const DIGIT = 7;

function svg(name, attributes, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

const format = (value) => (Number.isInteger(value) ? `${value}` : `${+value.toPrecision(4)}`);

/** Returns whether a value is a number to draw. Integers that lose digits are IDs, not amounts. */
function isAmount(value) {
  return typeof value === "number" && (Number.isSafeInteger(value) || !Number.isInteger(value));
}

/** Returns whether points have a distance in time. Events that are replayed arrive all at once. */
const isLine = (points) => points.length > 1 && points.at(-1)[0] - points[0][0] >= MIN_LENGTH;

/** Returns the numbers in data by name: of a JSON number, or of the fields of an object. */
function numbers(data) {
  const value = parse(data);
  if (isAmount(value)) return [["value", value]];
  if (value === null || typeof value !== "object" || Array.isArray(value)) return [];
  return Object.entries(value).filter(([, field]) => isAmount(field));
}

export class Chart {
  #figure;
  #plot;
  #legend;
  /** The points of each series: `[time, value]`, with `NaN` as value where the line is broken. */
  #series = new Map();
  #hidden = new Set();
  /** Times and kinds of marks. */
  #marks = [];
  /** The time under the pointer. */
  #pointed;
  /** The width of the labels of values. */
  #left = 0;

  constructor(figure) {
    this.#figure = figure;
    this.#plot = figure.querySelector("svg");
    this.#legend = figure.querySelector("figcaption");
    new ResizeObserver(() => this.draw()).observe(figure);
    this.#plot.onpointermove = (event) => {
      const { left, width } = this.#plot.getBoundingClientRect();
      const [start, end] = this.#times();
      const inner = (event.clientX - left - this.#left) / (width - RIGHT - this.#left);
      this.#pointed = start + Math.min(Math.max(inner, 0), 1) * (end - start);
      this.draw();
    };
    this.#plot.onpointerleave = () => {
      this.#pointed = undefined;
      this.draw();
    };
  }

  /** Adds the numbers in data that arrived at `time`. */
  add(time, data) {
    for (const [name, value] of numbers(data)) {
      if (!this.#series.has(name)) {
        if (this.#series.size === MAX_SERIES) continue;
        this.#series.set(name, []);
        this.#addToLegend(name);
      }
      const points = this.#series.get(name);
      points.push([time, value]);
      if (points.length > MAX_POINTS) points.shift();
    }
  }

  /** Marks a time. The lines are broken at a `gap`, where values may be missing. */
  mark(time, kind) {
    if (this.#series.size === 0) return;
    this.#marks.push([time, kind]);
    if (kind === "gap") for (const points of this.#series.values()) points.push([time, NaN]);
  }

  clear() {
    this.#series.clear();
    this.#marks = [];
    this.#legend.replaceChildren();
    this.#figure.hidden = true;
  }

  #addToLegend(name) {
    const button = element("button", `series s${this.#series.size - 1}`, `${name} `, element("b"));
    button.type = "button";
    button.title = "Show or hide this line";
    button.setAttribute("aria-pressed", "true");
    button.onclick = () => {
      if (!this.#hidden.delete(name)) this.#hidden.add(name);
      button.setAttribute("aria-pressed", !this.#hidden.has(name));
      this.draw();
    };
    this.#legend.append(button);
  }

  /** Returns the first and the last time of the axis. */
  #times() {
    const all = [...this.#series.values()].filter((points) => points.length > 0);
    const start = Math.min(...all.map((points) => points[0][0]));
    const end = Math.max(...all.map((points) => points.at(-1)[0]));
    return [start, Math.max(end, start + MIN_SPAN)];
  }

  /** Returns the lowest and the highest value of the lines that are shown. */
  #values() {
    let [low, high] = [Infinity, -Infinity];
    for (const [name, points] of this.#series) {
      if (this.#hidden.has(name)) continue;
      for (const [, value] of points) {
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
    if (low > high) return [0, 1];
    if (low < high) return [low, high];
    const margin = Math.max(1, Math.abs(low) / 10);
    return [low - margin, high + margin];
  }

  draw() {
    this.#figure.hidden = ![...this.#series.values()].some(isLine);
    const width = this.#plot.clientWidth;
    if (this.#figure.hidden || width === 0) return;
    const [start, end] = this.#times();
    const [low, high] = this.#values();
    const values = [low, (low + high) / 2, high];
    this.#left = 8 + DIGIT * Math.max(...values.map((value) => format(value).length));
    const inner = width - RIGHT - this.#left;
    const x = (time) => (this.#left + (inner * (time - start)) / (end - start)).toFixed(1);
    const y = (value) => (BOTTOM - ((BOTTOM - TOP) * (value - low)) / (high - low)).toFixed(1);
    this.#plot.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const nodes = [...this.#grid(values, width, y), ...this.#ticks(start, end, width, x)];
    this.#marks = this.#marks.filter(([time]) => time >= start);
    for (const [time, kind] of this.#marks) {
      const mark = svg("g", { class: `mark ${kind}` });
      mark.append(
        svg("title", {}, kind === "gap" ? "Events may be missing" : "The stream reconnected"),
        svg("path", { d: `M${x(time)},${TOP}V${BOTTOM}` }),
        svg("text", { x: +x(time) + 4, y: TOP + (kind === "gap" ? 8 : -5) }, kind === "gap" ? "gap" : "reconnected"),
      );
      nodes.push(mark);
    }
    if (this.#pointed) {
      nodes.push(svg("path", { class: "pointer", d: `M${x(this.#pointed)},${TOP}V${BOTTOM}` }));
    }
    [...this.#series].forEach(([name, points], index) => {
      const nearest = this.#nearest(points);
      const value = nearest ? format(nearest[1]) : "";
      this.#legend.children[index].querySelector("b").textContent = value;
      if (this.#hidden.has(name)) return;
      let path = "";
      let isBroken = true;
      for (const [time, value] of points) {
        if (!Number.isNaN(value)) path += `${isBroken ? "M" : "L"}${x(time)},${y(value)}`;
        isBroken = Number.isNaN(value);
      }
      nodes.push(svg("path", { class: `line s${index}`, d: path, "data-points": points.length }));
      if (nearest) {
        const d = `M${x(nearest[0])},${y(nearest[1])}h0`;
        nodes.push(svg("path", { class: `dot s${index}`, d }));
      }
    });
    this.#plot.replaceChildren(...nodes);
    const names = [...this.#series.keys()].join(", ");
    this.#plot.setAttribute("aria-label", `${names}: ${format(low)} to ${format(high)}`);
  }

  /** Returns the point nearest to the pointer, or else the newest. */
  #nearest(points) {
    const valid = points.filter(([, value]) => !Number.isNaN(value));
    if (!this.#pointed) return valid.at(-1);
    const distance = ([time]) => Math.abs(time - this.#pointed);
    return valid.reduce((best, point) => (distance(point) < distance(best) ? point : best));
  }

  #grid(values, width, y) {
    return values.flatMap((value) => [
      svg("path", { class: "grid", d: `M${this.#left},${y(value)}H${width}` }),
      svg("text", { class: "value", x: this.#left - 6, y: +y(value) + 4 }, format(value)),
    ]);
  }

  #ticks(start, end, width, x) {
    const most = Math.max(1, Math.floor(width / TICK_WIDTH));
    const step = 1000 * (STEPS.find((step) => (end - start) / 1000 / step <= most) ?? STEPS.at(-1));
    const nodes = [];
    for (let time = Math.ceil(start / step) * step; time <= end; time += step) {
      const at = +x(time);
      nodes.push(svg("path", { class: "tick", d: `M${at},${BOTTOM}v4` }));
      // Labels are centred, and those at the ends would be cut off.
      if (at < TICK_WIDTH / 3 || at > width - TICK_WIDTH / 3) continue;
      const label = new Date(time).toTimeString().slice(0, step < 60_000 ? 8 : 5);
      nodes.push(svg("text", { class: "time", x: at, y: HEIGHT - 4 }, label));
    }
    return nodes;
  }
}
