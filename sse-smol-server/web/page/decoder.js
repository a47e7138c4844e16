// Decodes an event stream, as in section 9.2.6 of the HTML Standard. Unlike an `EventSource`, it
// also returns comments, reconnection times, and blocks that have an ID and no data.

const LINE_END = /\r\n|\r|\n/g;

export class Decoder {
  /** The ID of the last block, which a reconnection sends. */
  lastEventId;

  #utf8 = new TextDecoder();
  /** The start of a line whose end has not been received. */
  #line = "";
  /** Whether a line feed that comes next belongs to a line end that was returned already. */
  #afterCr = false;
  #data = [];
  #type = "";
  #id;

  constructor(lastEventId = "") {
    this.lastEventId = this.#id = lastEventId;
  }

  /** Returns the items that a chunk completes, in order. */
  *decode(chunk) {
    const text = this.#utf8.decode(chunk, { stream: true });
    if (text === "") return;
    let start = this.#afterCr && text[0] === "\n" ? 1 : 0;
    this.#afterCr = text.endsWith("\r");
    const lineEnd = new RegExp(LINE_END);
    lineEnd.lastIndex = start;
    for (let end; (end = lineEnd.exec(text)); start = lineEnd.lastIndex) {
      const line = this.#line + text.slice(start, end.index);
      this.#line = "";
      const item = this.#take(line);
      if (item) yield item;
    }
    this.#line += text.slice(start);
  }

  /** Processes a line. Returns the item that it completes, if any. */
  #take(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return { kind: "comment", data: line.slice(1).replace(/^ /, "") };
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.#data.push(value);
    if (name === "event") this.#type = value;
    if (name === "id" && !value.includes("\0")) this.#id = value;
    if (name === "retry" && /^[0-9]+$/.test(value)) return { kind: "retry", data: value };
    return null;
  }

  #dispatch() {
    const id = this.#id;
    const isNewId = id !== this.lastEventId;
    this.lastEventId = id;
    const [type, data] = [this.#type || "message", this.#data];
    this.#type = "";
    this.#data = [];
    if (data.length > 0) return { kind: "event", type, id, data: data.join("\n") };
    return isNewId ? { kind: "id", id, data: "" } : null;
  }
}
