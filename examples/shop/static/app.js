// The page: draws the state that the shop gives, and tells it what the person does.
//
// Rules a reader can check line by line:
// 1. Data becomes text (textContent) and never HTML.
// 2. One state draws everything; after each call the page shows the state that came back, and a
//    search on the page is sorted anew.
// 3. The focus stays where it was, by the element's data-key.
// 4. The token stands behind the # of the address, which a browser sends to nobody.
"use strict";

const token = location.hash.slice(1);
const at = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
let state = null;
let query = "";
let why = null;
let asked = 0;
let running = 0;

async function call(path, body) {
  const options = { headers: { "X-Shop-Token": token } };
  if (body !== undefined) {
    options.method = "POST";
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function say(words) {
  at("status").textContent = words;
}

async function busily(work) {
  running += 1;
  document.body.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    say(`That did not work: ${error.message}.`);
  } finally {
    running -= 1;
    if (!running) document.body.removeAttribute("aria-busy");
  }
}

const act = (path, body, words) =>
  busily(async () => {
    const answer = await call(path, body);
    why = null;
    await show(answer);
    say(typeof words === "function" ? words(answer) : words);
  });

async function show(next) {
  state = next;
  const mine = ++asked;
  const found = query ? (await call("/api/search", { query, typed: false })).found : [];
  // A later state is being drawn already.
  if (mine === asked) draw(found);
}

function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "on") element.addEventListener(value[0], value[1]);
    else if (name === "key") element.dataset.key = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function button(words, key, path, body, said, given = {}) {
  const on = ["click", () => act(path, body, said)];
  return make("button", { type: "button", key, on, ...given }, words);
}

function art(topic) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#art-${topic.toLowerCase()}`);
  svg.setAttribute("class", "art");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

const did = (words) => (answer) =>
  answer.stored ? `${words} It was noted on this device.` : `${words} Nothing was noted.`;

function card(item, where) {
  const key = `${where}:${item.id}`;
  const name = item.name;
  const done = (label, kind, words, given) =>
    button(label, `${key}:${kind}`, "/api/did", { kind, item: item.id }, did(words), given);
  const wish = (label, kind, about, words) =>
    button(label, `${key}:${kind}`, "/api/wish", { wish: kind, about }, words);
  const topic = item.topic.toLowerCase();
  return make(
    "li",
    { class: "card", "data-item": item.id, "data-topic": topic },
    art(item.topic),
    make("p", { class: "topic" }, `${item.topic} · ${item.brand}`),
    make("h3", {}, name),
    make("p", { class: "price" }, `${item.price.toFixed(2)} €`),
    make("p", { class: "reason", "data-kind": item.kind }, item.reason),
    make(
      "div",
      { class: "row" },
      done("Buy", "purchase", `You bought ${name}.`, { class: "strong", "aria-label": `Buy ${name}` }),
      done("Cart", "cart", `${name} is in the cart.`, { "aria-label": `Put ${name} in the cart` }),
      done("View", "view", `You looked at ${name}.`, { "aria-label": `View ${name}` }),
    ),
    make(
      "details",
      { class: "tune", key: `${key}:tune` },
      make("summary", { key: `${key}:summary`, "aria-label": `More or less like ${name}` }, "More or less"),
      make(
        "div",
        { class: "row" },
        wish("Less of this", "less item", item.id, `You will see less of ${name}.`),
        wish(`More ${topic}`, "more", item.topic, `You will see more ${topic}.`),
        wish(`Less ${topic}`, "less", item.topic, `You will see less ${topic}.`),
      ),
    ),
  );
}

function lines(list, none) {
  const given = list.length ? list : [none];
  return given.map((words) => make("li", list.length ? {} : { class: "soft" }, words));
}

function toggle(title, key, checked, change) {
  const on = ["change", (event) => change(event.target.checked)];
  const input = make("input", { type: "checkbox", role: "switch", key, on, checked });
  return make("label", { class: "switch" }, input, make("span", {}, title));
}

function drawTray() {
  const message = state.message;
  if (!message) {
    const words = state.preferences.channels.some((channel) => channel.open)
      ? "Nothing here. Ask, and this device decides whether there is something for you."
      : "Messages are off: no channel is open. You open one in the preference centre.";
    at("tray").replaceChildren(make("p", { class: "soft" }, words));
    return;
  }
  const about = { message: message.id };
  const parts = [make("h3", {}, message.title)];
  if (message.nothing) {
    parts.push(make("p", { class: "reason" }, message.body));
  } else if (message.opened) {
    parts.push(make("p", {}, message.body), make("p", { class: "reason" }, message.reason));
    if (message.confidence !== null) {
      const share = Math.round(message.confidence * 100);
      parts.push(
        make(
          "p",
          { class: "soft" },
          make("label", { for: "confidence" }, `Confidence ${share} % `),
          make("meter", { id: "confidence", min: 0, max: 1, value: message.confidence }),
        ),
      );
    }
  }
  const row = make("div", { class: "row" });
  if (!message.nothing && !message.opened) {
    row.append(button("Open", "message:open", "/api/message/open", about, "", { class: "strong" }));
  }
  if (!message.nothing && message.opened) {
    const accept = { ...about, accepted: true };
    row.append(
      button("I like it", "message:accept", "/api/message/end", accept, "Good. It was noted.", {
        class: "strong",
      }),
    );
  }
  const explain = ["click", () => showWhy(about)];
  row.append(
    make("button", { type: "button", key: "message:why", on: explain, "aria-expanded": String(why !== null) }, "Why?"),
    button("Dismiss", "message:dismiss", "/api/message/end", { ...about, accepted: false }, "Dismissed."),
  );
  parts.push(row);
  if (why) {
    const verdict = why.same === null ? "Not in the log." : why.same ? "Replayed: the same." : "Replayed: NOT the same.";
    parts.push(
      make(
        "div",
        { class: "why", id: "why" },
        make("p", { class: why.same === false ? "badge bad" : "badge" }, verdict),
        make("ul", {}, ...lines(why.said, "")),
        make("details", { key: "why:policy" }, make("summary", { key: "why:policy:summary" }, "All guardrails"), make("ul", {}, ...lines(why.policy, ""))),
      ),
    );
  }
  at("tray").replaceChildren(make("article", { class: "message" }, ...parts));
}

const showWhy = (about) =>
  busily(async () => {
    why = why ? null : await call("/api/message/why", about);
    keepFocus(drawTray);
    say(why ? "Here is why." : "");
  });

function drawConsent() {
  at("consent").replaceChildren(
    ...state.consent.map((one) => {
      const key = `consent:${one.purpose}`;
      const text = make("p", { class: "soft", id: `${one.purpose}-text` }, one.text);
      const label = toggle(one.title, key, one.granted, (granted) =>
        act("/api/consent", { purpose: one.purpose, granted }, granted ? "You said yes." : "You took your yes back."),
      );
      label.firstChild.setAttribute("aria-describedby", text.id);
      label.append(make("span", { class: "badge" }, one.state));
      return make("div", { class: "ask" }, label, text);
    }),
  );
}

function chips(title, list) {
  if (!list.length) return null;
  return make(
    "div",
    {},
    make("h3", {}, title),
    make(
      "ul",
      { class: "chips" },
      ...list.map(({ id, name }) =>
        make(
          "li",
          {},
          name,
          button("×", `forget:${id}`, "/api/wish", { wish: "forget", about: id }, `Forgotten: ${name}.`, {
            "aria-label": `Take back: ${name}`,
          }),
        ),
      ),
    ),
  );
}

function drawPreferences() {
  const set = state.preferences;
  const named = (topics) => topics.map((topic) => ({ id: topic, name: topic }));
  const open = state.topics.filter((topic) => !set.liked.includes(topic) && !set.less.includes(topic));
  const wish = (kind, topic) =>
    button(kind === "more" ? "More" : "Less", `topic:${kind}:${topic}`, "/api/wish", { wish: kind, about: topic }, `You will see ${kind} ${topic.toLowerCase()}.`, {
      "aria-label": `${kind === "more" ? "More" : "Less"} ${topic.toLowerCase()}`,
    });
  const parts = [
    chips("More of", named(set.liked)),
    chips("Less of", [...named(set.less), ...set.less_items]),
    open.length ? make("h3", {}, "Topics") : null,
    make("ul", { class: "topics" }, ...open.map((topic) => make("li", {}, make("span", {}, topic), wish("more", topic), wish("less", topic)))),
    make("h3", {}, "Channels"),
    ...set.channels.map((channel) =>
      toggle(channel.title, `channel:${channel.name}`, channel.open, (allowed) =>
        act("/api/wish", { wish: allowed ? "allow channel" : "refuse channel", about: channel.name }, allowed ? "The channel is open." : "The channel is closed."),
      ),
    ),
    make("h3", {}, "Pause"),
    set.paused
      ? make("div", { class: "row" }, button("Go on", "pause:end", "/api/pause", { hours: 0 }, "The pause is over.", { class: "strong" }))
      : make(
          "div",
          { class: "row" },
          button("One hour", "pause:1", "/api/pause", { hours: 1 }, "Paused for an hour."),
          button("One day", "pause:24", "/api/pause", { hours: 24 }, "Paused for a day."),
          button("One week", "pause:168", "/api/pause", { hours: 168 }, "Paused for a week."),
        ),
    make("ul", { class: "lines", id: "wishes" }, ...lines(set.sentences, "")),
  ];
  at("preferences").replaceChildren(...parts.filter((part) => part !== null));
}

function keepFocus(work) {
  const active = document.activeElement;
  const key = active && active.dataset ? active.dataset.key : undefined;
  const panel = active ? active.closest("section") : null;
  const open = new Set([...document.querySelectorAll("details[open]")].map((one) => one.dataset.key));
  work();
  for (const one of document.querySelectorAll("details")) one.open = open.has(one.dataset.key);
  if (!key) return;
  const again = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  const heading = panel ? panel.querySelector("h2") : null;
  if (again) again.focus({ preventScroll: true });
  else if (heading) {
    heading.tabIndex = -1;
    heading.focus({ preventScroll: true });
  }
}

function draw(found) {
  keepFocus(() => {
    const paused = state.preferences.paused;
    at("mode").textContent = state.personal ? "Sorted for you, on this device" : paused ? "Paused" : "Everybody's shop";
    at("mode").dataset.personal = String(state.personal);
    at("shelf-title").textContent = state.personal ? "Your shelf" : "The shelf";
    at("shelf-note").textContent = state.personal ? "Sorted for you. Nothing of it leaves." : "What everybody sees.";
    at("shelf").replaceChildren(...state.shelf.map((item) => card(item, "shelf")));
    at("found-section").hidden = !query;
    at("found-title").textContent = `Found for “${query}”`;
    at("found").replaceChildren(...found.map((item) => card(item, "found")));
    at("nothing-found").hidden = found.length > 0;
    drawTray();
    drawConsent();
    drawPreferences();
    at("known").replaceChildren(...lines(state.known, state.personal ? "Nothing yet: look around." : "Nothing is read: there is no yes, or a pause."));
    const events = state.kept === 1 ? "1 event is" : `${state.kept} events are`;
    at("kept").textContent = state.kept ? `${events} kept on this device, encrypted.` : "";
    at("left").replaceChildren(...lines(state.left, "Nothing has left this device."));
  });
  document.body.dataset.ready = "true";
}

at("search").addEventListener("submit", (event) => {
  event.preventDefault();
  query = at("query").value.trim();
  busily(async () => {
    if (query) await call("/api/search", { query, typed: true });
    await show(await call("/api/state"));
    say(query ? `${at("found").children.length} found.` : "");
  });
});

at("clear-search").addEventListener("click", () => {
  query = at("query").value = "";
  busily(async () => {
    await show(state);
    at("shelf-title").focus();
  });
});

at("export").addEventListener("click", () =>
  busily(async () => {
    const response = await fetch("/api/export", { headers: { "X-Shop-Token": token } });
    if (!response.ok) throw new Error((await response.json()).error);
    const link = make("a", { href: URL.createObjectURL(await response.blob()), download: "my-data.jsonl" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    say("Your data is in your downloads: my-data.jsonl.");
  }),
);

function askToErase(asking) {
  at("erase").hidden = asking;
  at("erase-sure").hidden = !asking;
  at(asking ? "erase-no" : "erase").focus();
}

at("erase").addEventListener("click", () => askToErase(true));
at("erase-no").addEventListener("click", () => askToErase(false));
at("erase-yes").addEventListener("click", async () => {
  await act("/api/erase", { sure: true }, "Everything is erased. The shop does not know you.");
  askToErase(false);
});

at("ask").addEventListener("click", () =>
  act("/api/message/ask", { utc_offset_s: -60 * new Date().getTimezoneOffset() }, (answer) =>
    answer.message && !answer.message.nothing ? "There is a message." : "Nothing for now.",
  ),
);

if (token) {
  busily(async () => show(await call("/api/state")));
} else {
  say("Open the whole address that the program printed: what stands behind the # is the key.");
}
