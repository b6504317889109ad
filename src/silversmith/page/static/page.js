// The page works without this. With it, it lives: every view as it changes, and files that are dropped are put.
import { find, localTimes } from "./dom.js";
import { grow } from "./lists.js";
import { listen } from "./live.js";
import { takeFiles } from "./upload.js";

addEventListener("keydown", (event) => {
  const writes = event.target.closest?.("input, textarea, select");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || writes) return;
  event.preventDefault();
  find("#search").focus();
});

// Where the links of the header do not fit, the one of this view is scrolled to.
find(".top [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
localTimes(document);
listen();
grow();
takeFiles();
