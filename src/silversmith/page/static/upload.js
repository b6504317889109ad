// Files that are dropped or chosen are put in bronze, for the transform that they are dropped on; each can be undone.
import { all, csrf, find } from "./dom.js";

const post = async (url, body) => {
  const headers = { "x-csrf-token": csrf(), "content-type": "application/octet-stream" };
  const answer = await fetch(url, { method: "POST", body, headers });
  const result = await answer.json();
  if (result.error) throw new Error(result.error);
  return result;
};

const withSlash = (folder) => (folder && !folder.endsWith("/") ? `${folder}/` : folder);

function link(key) {
  const story = document.createElement("a");
  story.href = `/file?key=${encodeURIComponent(key)}`;
  story.className = "key";
  story.textContent = key;
  return story;
}

function undoButton(line, key, number) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Undo";
  button.setAttribute("aria-label", `Undo ${key}`);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const { restored } = await post(`/undo?number=${number}`);
      line.className = "";
      line.replaceChildren(link(key), restored ? " is again what it was before" : " was taken out of bronze again");
    } catch (error) {
      line.className = "bad";
      line.replaceChildren(link(key), `: ${error.message}`);
    }
  });
  return button;
}

async function put(file, path, folder) {
  const key = withSlash(folder) + path;
  const line = find("#puts").appendChild(document.createElement("li"));
  find("#puts-box").hidden = false;
  line.textContent = `${key}: on its way to bronze …`;
  try {
    const result = await post(`/upload?key=${encodeURIComponent(key)}`, file);
    const takers = result.transforms.length ? `for ${result.transforms.join(", ")}` : "but no transform matches its key";
    line.className = result.transforms.length ? "good" : "some";
    line.replaceChildren(link(key), ` is in bronze, ${takers}${result.replaced ? "; it replaced an earlier file" : ""} `);
    if (result.undo !== null) line.append(undoButton(line, key, result.undo));
  } catch (error) {
    line.className = "bad";
    line.textContent = `${key}: ${error.message}`;
  }
}

// Files below a folder that is dropped keep their path from there.
async function filesOf(entry, path) {
  if (entry.isFile) return [[await new Promise((done, fail) => entry.file(done, fail)), path + entry.name]];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const some = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!some.length) return files;
    for (const each of some) files.push(...(await filesOf(each, `${path}${entry.name}/`)));
  }
}

// What was dropped is gone after the first await.
async function dropped(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
  const files = [];
  for (const [entry, file] of entries) files.push(...(entry ? await filesOf(entry, "") : [[file, file.name]]));
  return files;
}

function chooser() {
  const dialog = find("#put-dialog");
  const [folder, transform, button, names] = ["#prefix", "#put-transform", "#put-now", "#put-names"].map((name) => find(name));
  let files = [];
  const choose = (chosen) => {
    files = chosen;
    button.disabled = !files.length;
    if (files.length) names.textContent = files.length === 1 ? files[0][1] : `${files.length} files`;
  };
  const prefill = () => {
    folder.value = transform.value;
  };
  transform.addEventListener("change", prefill);
  find("#chosen").addEventListener("change", (event) => {
    choose([...event.target.files].map((file) => [file, file.name]));
    event.target.value = "";
  });
  button.addEventListener("click", async () => {
    const [putting, prefix] = [files, folder.value.trim()];
    choose([]);
    dialog.close();
    for (const [file, path] of putting) await put(file, path, prefix);
  });
  return (chosen) => {
    choose(chosen);
    if (!folder.value) prefill();
    if (!dialog.open) dialog.showModal();
  };
}

export function takeFiles() {
  const targets = find("#targets");
  const open = chooser();
  find("#put-open").hidden = false;
  find("#put-open").addEventListener("click", () => open([]));
  find("#puts-close").addEventListener("click", () => {
    find("#puts-box").hidden = true;
    find("#puts").replaceChildren();
  });
  const under = (event) => event.target.closest?.("#targets li");
  const mark = (target) => all("li", targets).forEach((each) => each.classList.toggle("under", each === target));
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    targets.hidden = false;
    mark(under(event));
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) targets.hidden = true;
  });
  addEventListener("drop", async (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    targets.hidden = true;
    const target = under(event);
    const files = await dropped(event.dataTransfer);
    if (target?.dataset.prefix === undefined) return open(files);
    for (const [file, path] of files) await put(file, path, target.dataset.prefix);
  });
}
