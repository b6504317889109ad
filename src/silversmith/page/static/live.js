// The page as it changes: numbers with each look of the server, and the view again when something in it changed.
import { all, find, morph, parsed } from "./dom.js";
import { grow } from "./lists.js";

// News for a screen reader is gathered, so that not every file interrupts it.
const gathered = { ended: 0, failed: 0, at: 0 };
function say({ ended, failed }) {
  gathered.ended += ended;
  gathered.failed += failed;
  if (!gathered.ended || Date.now() - gathered.at < 10000) return;
  find("#said").textContent = `${gathered.ended} files ended, ${gathered.failed} of them failed`;
  Object.assign(gathered, { ended: 0, failed: 0, at: Date.now() });
}

function showNumbers(look) {
  for (const place of all("[data-live]")) {
    const text = look.values[place.dataset.live];
    if (text !== undefined && place.textContent !== text) place.textContent = text;
  }
  for (const place of all("[data-mark]")) {
    if (place.dataset.mark in look.marks) place.toggleAttribute("data-on", look.marks[place.dataset.mark]);
  }
  const problem = find("#problem");
  problem.hidden = !look.problem;
  if (problem.textContent !== look.problem) problem.textContent = look.problem;
}

const newestNumber = () => Math.max(0, ...all("#rows .row").map((row) => Number(row.dataset.number)));

// Rows that were not there before are lit up for a moment.
function lightUp(before) {
  for (const row of all("#rows .row")) row.classList.toggle("fresh", Number(row.dataset.number) > before);
}

const isReading = () => !document.getSelection().isCollapsed && find("main").contains(document.getSelection().anchorNode);

// A log is followed while its end is in sight.
const isAtEnd = (log) => log.scrollTop + log.clientHeight >= log.scrollHeight - 20;
const toEnd = (log) => {
  log.scrollTop = log.scrollHeight;
};

async function show() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  const text = await answer.text();
  // Below the first piece of a long list stands what a person has scrolled to: it must not move.
  if (all("#files .piece").length > 1) {
    find("#changed").hidden = false;
    return;
  }
  const before = newestNumber();
  const followed = all("[data-tail]").filter(isAtEnd);
  morph(find("main"), find("main", parsed(text)));
  followed.forEach(toEnd);
  grow();
  if (before) lightUp(before);
}

function tell(text) {
  const banner = find("#banner");
  banner.textContent = text;
  banner.hidden = false;
}

export function listen() {
  let source = null;
  let shown = "";
  let wanted = "";
  let busy = false;
  let hasEngine = true;
  let after = newestNumber();

  const refresh = async () => {
    if (busy || shown === wanted || document.hidden || isReading()) return;
    busy = true;
    const making = wanted;
    try {
      await show();
      shown = making;
    } finally {
      busy = false;
    }
  };
  const close = () => {
    source?.close();
    source = null;
  };
  const open = () => {
    const view = encodeURIComponent(location.pathname + location.search);
    source = new EventSource(`/live?after=${after}&view=${view}`);
    source.addEventListener("look", (event) => {
      const look = JSON.parse(event.data);
      find("#banner").hidden = true;
      showNumbers(look);
      hasEngine = look.values.engine === "the engine runs";
      say(look);
      wanted = look.revision;
      refresh();
    });
    source.addEventListener("ended", () => {
      close();
      end();
    });
    // The browser would ask again from where this page began: ask from where it is.
    source.addEventListener("error", async () => {
      close();
      after = newestNumber();
      find("[data-live=engine]").textContent = "no connection to the page's server";
      find("[data-mark='engine.runs']").removeAttribute("data-on");
      const answer = await fetch(location.href, { method: "HEAD" }).catch(() => null);
      if (!answer) end();
      else if (answer.status === 403) tell("Another engine runs here now: open the URL that it printed.");
      else setTimeout(() => source || ended || document.hidden || open(), 2000);
    });
  };
  // The engine ended, and with it the server of this page: what it showed last stays, and links would lead nowhere.
  let ended = false;
  const end = () => {
    if (ended) return;
    ended = true;
    document.body.classList.add("ended");
    const what = hasEngine ? "the engine" : "the server of this page";
    find("[data-live=engine]").textContent = `${what} ended`;
    all("[data-mark]").forEach((place) => place.removeAttribute("data-on"));
    const at = new Date().toLocaleTimeString([], { hourCycle: "h23" });
    const last = `T${what.slice(1)} ended at ${at}. This page stays as it was then.`;
    const again = hasEngine ? "Start it again with silversmith run, or look around without it:" : "Start it again:";
    tell(`${last} ${again} silversmith page.`);
    const stay = (event) => {
      if (!event.target.closest?.("a[href], button[type=submit], form")) return;
      event.preventDefault();
      find("#banner").scrollIntoView({ block: "nearest" });
    };
    addEventListener("click", stay, true);
    addEventListener("submit", stay, true);
    const waiting = setInterval(async () => {
      const answer = await fetch("/static/icon.svg", { cache: "no-store" }).catch(() => null);
      if (!answer?.ok) return;
      clearInterval(waiting);
      removeEventListener("click", stay, true);
      removeEventListener("submit", stay, true);
      tell(`${last} Something answers here again: open the URL that it printed.`);
    }, 3000);
  };
  // A browser allows six connections to one server: only what is seen holds one.
  all("[data-tail]").forEach(toEnd);
  const follow = () => (document.hidden ? close() : source || ended || open());
  follow();
  addEventListener("pagehide", close);
  addEventListener("pageshow", follow);
  document.addEventListener("visibilitychange", follow);
}
