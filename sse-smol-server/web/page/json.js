// JSON as text: indented and with marked tokens. It is not serialized from parsed values, since
// parsing changes large numbers, repeated keys and escapes.

/** Matches one token: a string, a number or literal, a bracket, a comma or a colon. */
const TOKEN = /"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g;

/** Returns the value of JSON text, or `undefined` if it is not JSON. */
export function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Returns whether text is a JSON object or array, which is worth more than one line. */
export function isStructured(text) {
  return /^\s*[{[]/.test(text) && parse(text) !== undefined;
}

/** Returns nodes that show a valid JSON text on several lines. */
export function pretty(text) {
  const tokens = text.match(TOKEN) ?? [];
  const nodes = [];
  let plain = "";
  let depth = 0;
  const line = () => (plain += `\n${"  ".repeat(depth)}`);
  tokens.forEach((token, index) => {
    const [before, after] = [tokens[index - 1], tokens[index + 1]];
    switch (token) {
      case "{":
      case "[":
        plain += token;
        depth += 1;
        if (after !== "}" && after !== "]") line();
        break;
      case "}":
      case "]":
        depth -= 1;
        if (before !== "{" && before !== "[") line();
        plain += token;
        break;
      case ",":
        plain += token;
        line();
        break;
      case ":":
        plain += ": ";
        break;
      default: {
        const mark = document.createElement("span");
        const isString = token[0] === '"';
        mark.className = isString ? (after === ":" ? "key" : "string") : "number";
        mark.textContent = token;
        nodes.push(plain, mark);
        plain = "";
      }
    }
  });
  return [...nodes, plain];
}
