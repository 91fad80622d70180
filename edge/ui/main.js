/** The page, wired: every part is made here. */
import { Api } from "./api.js";
import { useColours } from "./colours.js";
import { byId, paced, say } from "./elements.js";
import { EnginePill } from "./engine.js";
import { RunList } from "./list.js";
import { Problem, wordsFor } from "./problems.js";
import { Runs } from "./runs.js";
import { has } from "./schema.js";
import { Settings } from "./settings.js";
import { Stage } from "./stage.js";
import { EventStream } from "./stream.js";
import { stateOf } from "./words.js";

/** @typedef {import("./run.js").Run} Run */

/** Of the style sheet: there what is open lies below the list, not beside it. */
const narrow = matchMedia("(max-width: 820px)");
const api = new Api();
const settings = new Settings(byId("settings"));
const stream = new EventStream(api, {
  onEvent: (event) => runs.hear(event),
  onOpen: () => runs.catchUp(),
  onGap: () => runs.catchUp(),
  onState: showConnection,
});
const drawList = paced(() => {
  list.show(runs.list, stage.run);
  byId("no-runs").hidden = runs.list.length > 0;
});
addEventListener("pageshow", (event) => event.persisted && stream.restart()); // gone back to: its connection is of before
const runs = new Runs(api, stream, (run) => {
  drawList();
  if (run === null && stage.run && !runs.list.includes(stage.run)) open(runs.list[0] ?? null);
  else if (run === stage.run) stage.update();
  if (run) announce(run);
});
const stage = new Stage(api, runs, open);
const list = new RunList(byId("runs"), (run) => {
  open(run);
  if (narrow.matches) byId("stage").scrollIntoView(); // it lies below the list
});
new EnginePill(api, byId("engine"), (colours) => useColours(colours) && stage.repaint());
api.onRefused = () => askForToken();

/** @param {Run | null} run */
function open(run) {
  stage.open(run);
  runs.show(run);
  drawList();
}

/** @param {Iterable<File>} files */
function take(files) {
  const chosen = [...files];
  const config = chosen.length ? settings.read() : null;
  if (!config) return;
  if (api.lacksToken) askForToken(); // they wait for it
  open(runs.add(chosen, config)[0]);
}

/** @type {WeakMap<Run, string>} */
const announced = new WeakMap();

/** Tell a screen reader of every change of a run's state. @param {Run} run */
function announce(run) {
  const [, word] = stateOf(run);
  if (announced.get(run) === word) return;
  announced.set(run, word);
  const why = run.problem && run.isOver ? `. ${wordsFor(run.problem.code).title}` : "";
  say(byId("announce"), `${run.name}: ${word}${why}`);
}

/** @param {boolean} isOpen @param {Problem} [problem] why it is not */
function showConnection(isOpen, problem) {
  clearTimeout(connectionTimer);
  if (isOpen) byId("connection").hidden = true;
  else {
    connectionTimer = setTimeout(() => {
      const words = wordsFor(problem?.code ?? "offline");
      say(byId("connection"), `${words.title}. ${words.advice}`);
      byId("connection").hidden = false;
    }, 2_000);
  }
}
let connectionTimer = 0;

function askForToken() {
  byId("token-button").hidden = false;
  const dialog = byId("token");
  if (!dialog.open) dialog.showModal();
}

function listenForFiles() {
  const input = byId("files");
  input.addEventListener("change", () => {
    take(input.files);
    input.value = "";
  });
  const drop = byId("drop");
  const hasFiles = (/** @type {DragEvent} */ event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (!hasFiles(event)) return;
    event.preventDefault();
    take(event.dataTransfer?.files ?? []);
  });
  addEventListener("beforeunload", (event) => {
    if (runs.list.some((run) => run.isSending)) event.preventDefault(); // the browser asks whether to leave
  });
}

function listenForToken() {
  const [dialog, input] = [byId("token"), byId("token-text")];
  byId("token-button").addEventListener("click", () => dialog.showModal());
  byId("token-close").addEventListener("click", () => dialog.close()); // no submit button: the Enter key takes the first of them
  dialog.addEventListener("close", () => {
    const token = input.value.trim();
    const isGiven = dialog.returnValue === "use";
    dialog.returnValue = input.value = ""; // it is in the memory of this page alone
    if (isGiven) use(token);
  });
}

/** @param {string} token */
async function use(token) {
  say(byId("token-problem"), "");
  api.token = token;
  try {
    await api.ticket();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const { title, advice } = wordsFor(error.code);
    say(byId("token-problem"), error.status === 401 ? "This token is wrong or has expired." : `${title}. ${advice}`);
    return askForToken();
  }
  stream.restart();
  runs.sendNext();
  for (const run of runs.list) if (!run.isOver || run.status === "Lost") runs.read(run);
}

function listenForTheme() {
  const button = byId("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    const theme = localStorage.getItem("detections.theme") ?? (dark.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    button.setAttribute("aria-pressed", String(theme === "dark"));
    stage.repaint();
  };
  button.addEventListener("click", () => {
    localStorage.setItem("detections.theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    show();
  });
  dark.addEventListener("change", show);
  show();
}

/** Learn what this service can do, and whether it asks for a token. */
async function begin() {
  try {
    const openapi = await api.json("schema/openapi.json");
    settings.build(openapi);
    runs.canRetry = has(openapi, "/tasks/{task_id}/retry", "post");
    runs.canResume = has(openapi, "/uploads/{task_id}", "patch");
    await api.ticket();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (error.code === "offline" || error.status >= 500) setTimeout(begin, 3_000);
  }
}

listenForFiles();
listenForToken();
listenForTheme();
open(runs.list[0] ?? null);
for (const run of runs.list) runs.read(run);
begin();
