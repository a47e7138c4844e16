// The part of Datastar that the example's page uses, written for its test: actions are requests with the signals,
// and events are read as Datastar does.

const signals = {};
const elements = (name) => document.querySelectorAll(`[${CSS.escape(name)}]`);

const patchSignals = (patch, ifMissing) => {
    for (const [name, value] of Object.entries(patch)) {
        if (value === null) delete signals[name];
        else if (!ifMissing || !(name in signals)) signals[name] = value;
    }
    for (const element of elements("data-text")) element.textContent = signals[element.dataset.text.slice(1)];
    for (const element of elements("data-bind")) element.value = signals[element.dataset.bind];
};

const patchElements = ({ selector, mode = "outer", elements: html = "" }) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    // An inserted script runs only if it was created by a script.
    for (const old of template.content.querySelectorAll("script")) {
        const script = document.createElement("script");
        for (const { name, value } of old.attributes) script.setAttribute(name, value);
        script.text = old.text;
        old.replaceWith(script);
    }
    const pairs = selector
        ? [...document.querySelectorAll(selector)].map((target) => [target, template.content])
        : [...template.content.children].map((child) => [document.getElementById(child.id), child]);
    for (const [target, content] of pairs) {
        if (mode === "remove") target.remove();
        else if (mode === "append") target.append(content);
        else if (mode === "outer") target.replaceWith(content);
        else throw new Error(`the page uses the mode ${mode}`);
    }
    for (const script of elements("data-effect")) {
        if (script.dataset.effect === "el.remove()") script.remove();
    }
};

const dispatch = ({ event, data }) => {
    const lines = {};
    for (const line of data) {
        const space = line.indexOf(" ");
        (lines[line.slice(0, space)] ??= []).push(line.slice(space + 1));
    }
    const values = Object.fromEntries(Object.entries(lines).map(([key, lines]) => [key, lines.join("\n")]));
    if (event === "datastar-patch-signals") patchSignals(JSON.parse(values.signals), values.onlyIfMissing === "true");
    if (event === "datastar-patch-elements") patchElements(values);
};

const request = async (method, path) => {
    const url = new URL(path, location);
    const init = { method, headers: { "Accept": "text/event-stream", "Datastar-Request": "true" } };
    if (method === "GET") url.searchParams.set("datastar", JSON.stringify(signals));
    else init.body = JSON.stringify(signals);
    const response = await fetch(url, init);
    if (!response.ok) throw new Error(`${response.status}: ${await response.text()}`);
    let rest = "";
    let message = { data: [] };
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + chunk).split("\n");
        rest = lines.pop();
        for (const line of lines) {
            const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
            if (line === "") {
                dispatch(message);
                message = { data: [] };
            } else if (field === "data") message.data.push(value);
            else if (field === "event") message.event = value;
        }
    }
};

const act = (expression) => {
    const [, method, path] = /^@(get|post)\('([^']+)'/.exec(expression);
    request(method.toUpperCase(), path).catch((error) => (document.body.dataset.error = error));
};

patchSignals(Function(`return ${document.body.dataset.signals}`)());
for (const element of elements("data-bind")) {
    element.addEventListener("input", () => (signals[element.dataset.bind] = element.value));
}
for (const element of elements("data-on:click")) {
    element.addEventListener("click", () => act(element.getAttribute("data-on:click")));
}
for (const element of elements("data-init")) act(element.dataset.init);
