// Commands for a shell, and the clipboard.

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** Returns a command that sends this request. */
export function curl(path, { method, headers = {}, body } = {}) {
  const words = ["curl"];
  if (method === undefined) words.push("-N");
  for (const [name, value] of Object.entries(headers)) words.push("-H", quote(`${name}: ${value}`));
  if (body !== undefined) words.push("--data-binary", quote(body));
  words.push(quote(location.origin + path));
  return words.join(" ");
}

/** Copies text to the clipboard, and reports that on the button. */
export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // The clipboard is available in secure contexts only, such as https and loopback addresses.
    const area = document.createElement("textarea");
    area.value = text;
    button.after(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const label = (button.dataset.label ??= button.textContent);
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = label), 1500);
}
