// Long lists: the next piece when somebody gets near the end, and only what is near in the document.
import { all, find, parsed } from "./dom.js";

const near = new IntersectionObserver(
  (entries) => {
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
  },
  { rootMargin: "3000px" },
);

// The link to older files that is watched: a view that is made again may have another one.
let watched = null;

async function piece(address) {
  try {
    const answer = await fetch(address);
    return answer.ok ? await answer.text() : null;
  } catch {
    return null; // the connection was lost
  }
}

export function grow() {
  const link = find("[data-older]");
  if (!link || link === watched) return;
  watched = link;
  const watch = new IntersectionObserver(
    async (entries) => {
      if (!entries.at(-1).isIntersecting) return; // on a busy machine several come at once
      watch.disconnect();
      const text = link.isConnected ? await piece(`${link.href}&piece=1`) : null;
      watched = null;
      if (!link.isConnected) return grow();
      if (text === null) return setTimeout(grow, 2000);
      const fetched = parsed(text);
      const next = find(".older", fetched);
      // Files that came meanwhile have moved those before them into this piece.
      const shown = new Set(all("#files .piece").flatMap((piece) => [...(piece.kept ?? piece.children)]).map((row) => row.dataset.id));
      all(".row", fetched).filter((row) => shown.has(row.dataset.id)).forEach((row) => row.remove());
      for (const piece of all(".piece", fetched)) {
        find("#files").append(document.adoptNode(piece));
        near.observe(piece);
      }
      if (next) link.parentElement.replaceWith(document.adoptNode(next));
      else link.parentElement.remove();
      grow();
    },
    { rootMargin: "1500px" },
  );
  watch.observe(link);
}
