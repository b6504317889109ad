// What all parts of the page's script use.

export const find = (selector, within = document) => within.querySelector(selector);
export const all = (selector, within = document) => [...within.querySelectorAll(selector)];
export const csrf = () => find("meta[name=csrf]").content;

// Times are written in UTC; a person wants their own, and the date only where it is not today's. To make a format takes
// long, so it is done once.
const timeOfDay = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayAndTime = new Intl.DateTimeFormat([], { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const dateAndTime = new Intl.DateTimeFormat([], { dateStyle: "medium", timeStyle: "medium" });

export function localTimes(within) {
  const today = new Date().toDateString();
  for (const time of all("time[datetime]", within)) {
    const at = new Date(time.dateTime);
    if (isNaN(at) || !/^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}/.test(time.textContent)) continue;
    time.textContent = at.toDateString() === today ? timeOfDay.format(at) : dayAndTime.format(at);
    time.title = dateAndTime.format(at);
  }
}

// HTML of the server, in which every text is escaped, as nodes.
export function parsed(html) {
  const holder = new DOMParser().parseFromString(html, "text/html");
  localTimes(holder);
  return holder;
}

const identity = (node) => node.dataset?.id || node.id || "";

// Make one element like another, and touch only what differs: the focus, the scroll position, what is folded open and
// what is selected stay. Children with an identity are moved, not rewritten. `data-keep` is left alone while it is the same.
export function morph(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.dataset?.keep !== undefined && old.dataset.keep === fresh.dataset?.keep) return;
  for (const { name, value } of [...fresh.attributes]) {
    if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  const known = new Map([...old.children].filter(identity).map((child) => [identity(child), child]));
  let at = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const name = identity(child);
    const match = name ? known.get(name) : at && at.nodeName === child.nodeName && !identity(at) ? at : null;
    if (!match) {
      old.insertBefore(document.adoptNode(child), at);
      continue;
    }
    if (match === at) at = at.nextSibling;
    else old.insertBefore(match, at);
    if (match.nodeType === Node.ELEMENT_NODE) morph(match, child);
    else if (match.nodeValue !== child.nodeValue) match.nodeValue = child.nodeValue;
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
