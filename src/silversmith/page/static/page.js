// The page works without this. With it, it lives: numbers and files as they come, files that are dropped are put.
"use strict";

const MOST_ROWS = 60;
const find = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// Times are written in UTC; a person wants their own. To make a format takes long, so it is done once.
const timeOfDay = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dateAndTime = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium" });
function localTimes(within) {
  for (const time of all("time[datetime]", within)) {
    const at = new Date(time.dateTime);
    if (isNaN(at) || !/^\d{2}:\d{2}:\d{2}$/.test(time.textContent)) continue;
    time.textContent = timeOfDay.format(at);
    time.title = dateAndTime.format(at);
  }
}

// What a screen reader is told is gathered, so that it is not interrupted at every file.
const gathered = { ended: 0, failed: 0, at: 0 };
function say(ended, failed) {
  gathered.ended += ended;
  gathered.failed += failed;
  if (!gathered.ended || Date.now() - gathered.at < 10000) return;
  find("#said").textContent = `${gathered.ended} files ended, ${gathered.failed} of them failed`;
  Object.assign(gathered, { ended: 0, failed: 0, at: Date.now() });
}

function insertRows(html) {
  const rows = find("#rows");
  const given = document.createElement("template");
  given.innerHTML = html; // written by the server, every text in it escaped
  const fresh = all(".row", given.content);
  fresh.forEach((row) => row.classList.add("fresh"));
  localTimes(given.content);
  rows.prepend(given.content);
  all(".row", rows).slice(MOST_ROWS).forEach((row) => {
    if (!row.contains(document.activeElement)) row.remove();
  });
  find("#empty")?.remove();
}

function look(found, known) {
  for (const [name, text] of Object.entries(found.values)) {
    for (const place of known.values.get(name) ?? []) if (place.textContent !== text) place.textContent = text;
  }
  for (const [name, on] of Object.entries(found.marks)) {
    for (const place of known.marks.get(name) ?? []) place.toggleAttribute("data-on", on);
  }
  const problem = find("#problem");
  problem.hidden = !found.problem;
  if (problem.textContent !== found.problem) problem.textContent = found.problem;
  if (found.files) insertRows(found.files);
  if (found.plots) find("#plots").innerHTML = found.plots;
  say(found.ended, found.failed);
}

function byName(attribute) {
  const found = new Map();
  for (const place of all(`[${attribute}]`)) {
    const name = place.getAttribute(attribute);
    found.set(name, [...(found.get(name) ?? []), place]);
  }
  return found;
}

function listen(live) {
  const known = { values: byName("data-live"), marks: byName("data-mark") };
  const names = all(".flow .box-silver").length;
  let after = Number(live.dataset.after);
  let source = null;
  const open = () => {
    source = new EventSource(`/live?after=${after}&span=${encodeURIComponent(live.dataset.span)}`);
    source.addEventListener("look", (event) => {
      const found = JSON.parse(event.data);
      if (found.transforms.length && found.transforms.length !== names) return location.reload();
      look(found, known);
      const newest = find("#rows .row");
      if (newest) after = Math.max(after, Number(newest.dataset.number));
    });
    // The browser would ask again from where this page began: ask from where it is.
    source.addEventListener("error", () => {
      close();
      find("[data-live=engine]").textContent = "no connection to the page's server";
      find("[data-mark='engine.runs']").removeAttribute("data-on");
      setTimeout(() => source || open(), 2000);
    });
  };
  const close = () => {
    source?.close();
    source = null;
  };
  open();
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => event.persisted && open());
}

// Of a long list only what is near is in the document: the rest is kept aside, and its place kept free.
const near = "IntersectionObserver" in window && new IntersectionObserver((entries) => {
  for (const { target: piece, isIntersecting } of entries) {
    if (isIntersecting && piece.kept) {
      piece.append(...piece.kept);
      piece.kept = null;
      piece.style.height = "";
    } else if (!isIntersecting && !piece.kept && !piece.contains(document.activeElement)) {
      piece.style.height = `${piece.offsetHeight}px`;
      piece.kept = [...piece.children];
      piece.replaceChildren();
    }
  }
}, { rootMargin: "3000px" });

// The next piece of a long list, when somebody gets near its end.
function grow() {
  const link = find("[data-older]");
  if (!link || !("IntersectionObserver" in window)) return;
  const watch = new IntersectionObserver(async ([seen]) => {
    if (!seen.isIntersecting) return;
    watch.disconnect();
    const answer = await fetch(`${link.href}&piece=1`);
    if (!answer.ok) return;
    const given = document.createElement("template");
    given.innerHTML = await answer.text();
    localTimes(given.content);
    const next = find(".older", given.content);
    for (const piece of all(".piece", given.content)) {
      find("#files").append(piece);
      near.observe(piece);
    }
    if (next) link.parentElement.replaceWith(next);
    else link.parentElement.remove();
    grow();
  }, { rootMargin: "1500px" });
  watch.observe(link);
}

async function put(file, path) {
  const folder = find("#prefix").value.trim();
  const key = folder && !folder.endsWith("/") ? `${folder}/${path}` : folder + path;
  const line = find("#puts").appendChild(document.createElement("li"));
  line.textContent = `${key}: on its way to bronze …`;
  try {
    const answer = await fetch(`/upload?key=${encodeURIComponent(key)}`, {
      method: "POST",
      body: file,
      headers: { "x-csrf-token": find("meta[name=csrf]").content, "content-type": "application/octet-stream" },
    });
    const found = await answer.json();
    if (found.error) throw new Error(found.error);
    const story = document.createElement("a");
    story.href = `/file?key=${encodeURIComponent(key)}`;
    story.textContent = key;
    line.className = "good";
    const takers = found.transforms.length ? found.transforms.join(", ") : "no transform: none matches its key";
    line.replaceChildren(story, ` is in bronze, for ${takers}`);
  } catch (error) {
    line.className = "bad";
    line.textContent = `${key}: ${error.message}`;
  }
}

// Files below a folder that is dropped keep their path from there.
async function files(entry, path) {
  if (entry.isFile) return [[await new Promise((done, fail) => entry.file(done, fail)), path + entry.name]];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) return found;
    for (const each of some) found.push(...(await files(each, `${path}${entry.name}/`)));
  }
}

function takeFiles() {
  const area = find("#drop");
  if (!area) return;
  const mark = (on) => document.body.classList.toggle("dragged", on);
  find("#put").addEventListener("submit", (event) => event.preventDefault());
  find("#chosen").addEventListener("change", async (event) => {
    for (const file of [...event.target.files]) await put(file, file.name);
    event.target.value = "";
  });
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    mark(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget || mark(false));
  addEventListener("drop", async (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    mark(false);
    const given = [...event.dataTransfer.items].filter((item) => item.kind === "file");
    const entries = given.map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]); // gone after the first await
    for (const [entry, file] of entries) {
      const found = entry ? await files(entry, "") : [[file, file.name]];
      for (const [each, path] of found) await put(each, path);
    }
  });
}

addEventListener("keydown", (event) => {
  const writes = event.target.closest?.("input, textarea, select");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || writes) return;
  event.preventDefault();
  find("#search").focus();
});

localTimes(document);
const live = find("#live");
if (live) listen(live);
grow();
takeFiles();
