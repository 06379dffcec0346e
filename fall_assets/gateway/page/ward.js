// The ward's page. All text from elsewhere goes in by textContent; nothing is ever read as markup.
"use strict";

const ANSWERS = [["going", "I’m going"], ["fall", "Was a fall"], ["false_alarm", "False alarm"], ["help", "Help"]];
const SAID = {going: "is going", fall: "says: was a fall", false_alarm: "says: false alarm", help: "asks for help"};
const BLIND = {
  lost: "no picture", frozen: "picture stands still", black: "picture is black", moved: "camera was moved",
  starved: "too few pictures", silent: "nothing heard of it",
};
const SILENCE_MS = 30000, PATIENCE_MS = 3000, POLL_MS = 4000, REQUEST_MS = 10000, CHIME_MS = 5000;
const $ = (id) => document.getElementById(id);

// What is kept in this browser: the name, whether sound is wanted, answers not sent yet.
const kept = {
  get(name, fallback) {
    try { const text = localStorage.getItem("fall." + name); return text === null ? fallback : JSON.parse(text); } catch { return fallback; }
  },
  set(name, value) { try { localStorage.setItem("fall." + name, JSON.stringify(value)); } catch { /* private window: kept until it is closed */ } },
};

let view = null, clockOffset = 0, source = null, lastContact = 0, downSince = null, signedIn = false;
let known = null, queue = kept.get("queue", []), sending = false, muted = kept.get("muted", false), audio = null;
let chimed = 0, polling = false, lowered = false, opening = 0;

// ---- Small helpers ----
function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}
function put(node, text) { if (node.textContent !== text) node.textContent = text; }
function show(node, shown) { node.hidden = !shown; }
const serverNow = () => Date.now() + clockOffset;
const two = (number) => String(number).padStart(2, "0");
function clock(time) { const at = new Date(time); return two(at.getHours()) + ":" + two(at.getMinutes()); }
function exact(time) { return clock(time) + ":" + two(new Date(time).getSeconds()); }
function span(ms) {
  const all = Math.max(0, Math.floor(ms / 1000));
  if (all < 3600) return Math.floor(all / 60) + ":" + two(all % 60);
  return Math.floor(all / 3600) + " h " + two(Math.floor(all / 60) % 60) + " min";
}
function spoken(ms) {
  const minutes = Math.floor(ms / 60000);
  return minutes < 1 ? "less than a minute ago" : minutes === 1 ? "1 minute ago" : minutes + " minutes ago";
}
function place(item) {
  const parts = [];
  if (item.room) parts.push(/^room\b/i.test(item.room) ? item.room : "Room " + item.room);
  if (item.bed) parts.push(/^bed\b/i.test(item.bed) ? item.bed : "Bed " + item.bed);
  return item.shownPlace || parts.join(" · ") || "Camera " + item.camera_id;
}
const who = (name) => name || "Someone";
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
function say(text) { $("said").textContent = text; }
function call(text) { $("called").textContent = text; }

// ---- Talking to the gateway ----
async function ask(method, path, body) {
  const options = {method, headers: {}, credentials: "same-origin", cache: "no-store", signal: AbortSignal.timeout(REQUEST_MS)};
  if (body !== undefined) { options.headers["Content-Type"] = "application/json"; options.body = JSON.stringify(body); }
  return fetch(path, options);
}
function heard(nowUtc) {
  lastContact = Date.now();
  if (nowUtc) clockOffset = Date.parse(nowUtc) - Date.now();
  downSince = null;
  lowered = false;
}
function lost() { if (downSince === null) downSince = lastContact || Date.now(); }

function listen() {
  if (source) source.close();
  opening = Date.now();
  source = new EventSource("/v1/ward/stream");
  source.addEventListener("tick", (event) => { heard(JSON.parse(event.data).now_utc); frame(); flush(); });
  source.addEventListener("view", (event) => { const news = JSON.parse(event.data); heard(news.now_utc); take(news); flush(); });
  source.addEventListener("error", () => { lost(); frame(); });
}
// Where the stream is closed or silent: ask, which also tells whether the session is over.
async function poll() {
  if (!signedIn || polling) return;
  if (downSince === null && Date.now() - lastContact < SILENCE_MS) return;
  polling = true;
  try {
    const response = await ask("GET", "/v1/ward/alerts");
    if (response.status === 401) { signOut("Your session is over. Open the page again."); return; }
    if (!response.ok) { lost(); return; }
    const news = await response.json();
    heard(news.now_utc);
    take(news);
    if (source.readyState === EventSource.CLOSED || Date.now() - opening > SILENCE_MS) listen();
    flush();
  } catch { lost(); } finally { polling = false; frame(); }
}

// ---- Answers: into the queue first, then sent, so that none is lost ----
function answer(alert, what) {
  queue.push({alert_id: alert.alert_id, answer: what, by: $("name").value.trim(), at_utc: new Date(serverNow()).toISOString(), key: newKey(), place: place(alert)});
  kept.set("queue", queue);
  draw();
  flush();
}
async function flush() {
  if (sending || !signedIn) return;
  sending = true;
  try {
    while (queue.length) {
      const {alert_id, place: where, ...body} = queue[0];
      const what = alert_id === undefined ? "report" : "answer";
      const path = alert_id === undefined ? "/v1/ward/falls" : "/v1/ward/alerts/" + encodeURIComponent(alert_id) + "/answers";
      const response = await ask("POST", path, body);
      if (response.status === 401) { signOut("Your session is over. Open the page again: answers not sent are kept."); return; }
      if (response.status >= 500 || response.status === 429 || response.status === 408) return;
      queue.shift();
      kept.set("queue", queue);
      say(response.ok ? where + ": " + what + " sent" : where + ": the " + what + " was not taken");
      await refresh();
    }
  } catch { lost(); } finally { sending = false; draw(); }
}
async function refresh() {
  const response = await ask("GET", "/v1/ward/alerts");
  if (response.ok) { const news = await response.json(); heard(news.now_utc); take(news); }
}
// ---- Falls that no alert told of: the same queue ----
async function offerReport() {
  if (!$("report").open) return;
  put($("report-problem"), "");
  $("report-time").value = clock(serverNow());
  try {
    const response = await ask("GET", "/v1/ward/cameras");
    if (!response.ok) throw new Error(response.statusText);
    const {cameras} = await response.json();
    const places = new Map();
    cameras.forEach((camera) => places.set(place(camera), (places.get(place(camera)) || 0) + 1));
    $("report-camera").replaceChildren(...cameras.map((camera) => {
      const parts = [place(camera)];
      if (!view || !view.ward) parts.push(camera.ward || "no ward");
      if (places.get(parts[0]) > 1 && (camera.room || camera.bed)) parts.push("camera " + camera.camera_id);
      const option = make("option", "", parts.join(" · "));
      option.value = camera.camera_id;
      option.dataset.place = place(camera);
      return option;
    }));
    if (!cameras.length) put($("report-problem"), "No camera is known here.");
  } catch { put($("report-problem"), "The list of rooms cannot be had now: close this and open it again."); }
}
function reportFall(event) {
  event.preventDefault();
  const [chosen] = $("report-camera").selectedOptions;
  const [hours, minutes] = $("report-time").value.split(":").map(Number);
  if (!chosen || !Number.isInteger(hours)) { put($("report-problem"), "Say where, and when it was found."); return; }
  const found = new Date(serverNow());
  // Of the minute that is told, its end: the fall lies before.
  found.setHours(hours, minutes, 59, 0);
  if (found - serverNow() > 60000) found.setDate(found.getDate() - 1);
  queue.push({
    camera_id: chosen.value, until_utc: new Date(Math.min(found, serverNow())).toISOString(),
    within_min: Number($("report-within").value), by: $("name").value.trim(), key: newKey(), place: chosen.dataset.place,
  });
  kept.set("queue", queue);
  $("report").open = false;
  $("falls-heading").focus();
  draw();
  flush();
}
function fillFall(row, fall) {
  put(row.querySelector("h3"), place(fall));
  const when = "between " + clock(fall.from_utc) + " and " + clock(fall.until_utc);
  put(row.querySelector(".said"), "Fell " + when + " · " + who(fall.by) + " reported it" + (fall.waits ? " – not sent yet" : ""));
}
function fallsShown() {
  const sent = new Set(view.falls.map((fall) => fall.key));
  const waiting = queue.filter((item) => item.alert_id === undefined && !sent.has(item.key)).map((item) => ({
    ...item, room: null, bed: null, shownPlace: item.place, waits: true,
    from_utc: new Date(Date.parse(item.until_utc) - 60000 * item.within_min).toISOString(),
  }));
  return [...waiting.reverse(), ...view.falls].map((fall) => ({...fall, alert_id: fall.key || fall.camera_id + fall.until_utc}));
}
const waitingFor = (alertId) => queue.filter((item) => item.alert_id === alertId);

// ---- What is shown ----
function take(news) {
  // An answer that was overtaken; a database that was put back has a lower revision, but a later time.
  if (view && news.revision < view.revision && news.now_utc < view.now_utc) return;
  view = news;
  const open = view.open.filter((alert) => alert.state === "open");
  const fresh = known === null ? open : open.filter((alert) => !known.has(alert.alert_id));
  known = known || new Set();
  view.open.forEach((alert) => known.add(alert.alert_id));
  draw();
  if (fresh.length) {
    call(fresh.map((alert) => "Alert: " + place(alert) + ", " + alert.title).join(". "));
    chime(true);
    if (navigator.vibrate && !muted && navigator.userActivation && navigator.userActivation.hasBeenActive) { try { navigator.vibrate([400, 150, 400]); } catch { /* not allowed before a touch */ } }
  }
}
const RANK = {help: 0, open: 0, going: 1, closed: 2};
function stateOf(alert) {
  const waiting = waitingFor(alert.alert_id);
  const last = waiting.length ? waiting[waiting.length - 1].answer : null;
  return last === null ? alert.state : {going: "going", help: "help"}[last] || "answered";
}
function draw() {
  if (!view) return;
  const cards = view.open.map((alert) => ({...alert, shown: stateOf(alert)}));
  cards.sort((one, two) => (RANK[one.state] - RANK[two.state]) || Date.parse(two.raised_utc) - Date.parse(one.raised_utc));
  list($("open"), cards, newCard, fillCard, $("open-heading"));
  list($("older"), view.older, newRow, fillRow, $("older-heading"));
  $("open").classList.toggle("many", cards.length > 1);
  put($("open-heading"), cards.length ? "Open alerts (" + cards.length + ")" : "Open alerts");
  show($("empty"), !cards.length);
  show($("older-empty"), !view.older.length);
  list($("falls"), fallsShown(), () => { const row = make("li", "row"); row.append(make("h3"), make("p", "said")); return row; }, fillFall, $("falls-heading"));
  put($("ward"), view.ward ? view.ward : "All wards");
  const unanswered = cards.filter((alert) => alert.shown === "open" || alert.shown === "help").length;
  document.title = (unanswered ? "(" + unanswered + ") " : "") + "Fall alerts – " + (view.ward || "all wards");
  show($("blind"), view.blind.length > 0);
  list($("blind-list"), view.blind.map((item) => ({...item, alert_id: item.camera_id})), () => make("li"), (node, item) => {
    put(node, place(item) + (view.ward ? "" : " (" + (item.ward || "no ward") + ")") + ": " + (BLIND[item.state] || item.state) + " since " + clock(item.since_utc));
  }, null);
  frame();
}
// One node for each alert, kept and filled anew: what has the focus keeps it.
function list(parent, items, create, fill, fallback) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const lostCard = focused && focused.closest("[data-id]");
  const nodes = new Map(Array.from(parent.children, (node) => [node.dataset.id, node]));
  const wanted = new Set(items.map((item) => item.alert_id));
  const index = lostCard ? Array.from(parent.children).indexOf(lostCard) : 0;
  nodes.forEach((node, id) => { if (!wanted.has(id)) node.remove(); });
  items.forEach((item, at) => {
    let node = nodes.get(item.alert_id);
    if (!node) { node = create(item); node.dataset.id = item.alert_id; }
    fill(node, item);
    if (parent.children[at] !== node) parent.insertBefore(node, parent.children[at] || null);
  });
  if (!focused || document.activeElement === focused) return;
  if (focused.isConnected) { focused.focus({preventScroll: true}); return; }
  const next = parent.children[Math.min(index, parent.children.length - 1)];
  const button = next && next.querySelector("button");
  (button || fallback || $("open-heading")).focus();
}
function buttons(box, alertOf, choices, label) {
  choices.forEach(([what, text]) => {
    const button = make("button", "answer " + what, text);
    button.type = "button";
    button.dataset.answer = what;
    button.addEventListener("click", () => answer(alertOf(), what));
    box.append(button);
  });
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", label);
}
function newCard(alert) {
  const card = make("li", "card");
  const band = make("div", "band");
  const heading = make("h3", "place");
  heading.id = "place-" + alert.alert_id;
  const age = make("span", "age");
  age.setAttribute("role", "timer");
  age.setAttribute("aria-live", "off");
  band.append(heading, age, make("p", "status"));
  const body = make("div", "body");
  if (alert.still) {
    const still = make("img", "still");
    still.decoding = "async";
    still.src = "/v1/ward/alerts/" + encodeURIComponent(alert.alert_id) + "/still";
    still.addEventListener("error", () => { still.remove(); body.classList.add("bare"); });
    body.append(still);
  } else body.classList.add("bare");
  const side = make("div", "side");
  const answers = make("div", "answers");
  side.append(make("p", "what"), make("p", "facts"), make("span", "badge", "Camera has no ward: shown on all pages"), make("ul", "lines"), answers);
  body.append(side);
  card.append(band, body);
  buttons(answers, () => card.alert, ANSWERS, "Answer");
  return card;
}
function fillCard(card, alert) {
  card.alert = alert;
  card.dataset.state = alert.shown === "answered" ? "going" : alert.shown;
  const where = place(alert);
  put(card.querySelector(".place"), where);
  const still = card.querySelector(".still");
  if (still) still.alt = "Blurred picture of " + where + " at the alert";
  const last = alert.answers[alert.answers.length - 1];
  const waiting = waitingFor(alert.alert_id);
  let status = "Nobody has answered";
  if (waiting.length) {
    const latest = waiting[waiting.length - 1];
    status = who(latest.by) + " " + SAID[latest.answer] + " – not sent yet";
  } else if (last) status = who(last.by) + " " + SAID[last.answer] + ", " + clock(last.at_utc);
  put(card.querySelector(".status"), status);
  put(card.querySelector(".what"), alert.title);
  const facts = ["Raised at " + exact(alert.raised_utc)];
  if (!view.ward && alert.ward) facts.push(alert.ward);
  facts.push("camera " + alert.camera_id);
  if (alert.clock_wrong) facts.push("time corrected: the box’s clock is wrong");
  put(card.querySelector(".facts"), facts.join(" · "));
  show(card.querySelector(".badge"), alert.ward === null);
  const lines = alert.told.map((one) => {
    const why = one.reason === "help" ? " (help)" : "";
    if (one.state === "sent") return one.contact + why + " was told at " + clock(one.at_utc);
    if (one.state === "given_up") return one.contact + why + " could not be reached";
    if (one.state === "not_needed") return null;
    return "Telling " + one.contact + why + " …";
  }).filter(Boolean);
  if (alert.shown === "help" && !view.help_contacts) lines.push("No help contact is set up here: call for help yourself.");
  const box = card.querySelector(".lines");
  const wantsNext = alert.next_level_utc && alert.level >= 0 && alert.shown === "open";
  const count = lines.length + (wantsNext ? 1 : 0);
  while (box.children.length > count) box.lastChild.remove();
  while (box.children.length < count) box.append(make("li"));
  lines.forEach((text, at) => { put(box.children[at], text); box.children[at].className = ""; });
  if (wantsNext) box.lastChild.className = "next strong";
  card.querySelectorAll(".answer").forEach((button) => {
    const now = waiting.length ? waiting[waiting.length - 1].answer : last && last.answer;
    button.setAttribute("aria-pressed", String(button.dataset.answer === now));
    button.setAttribute("aria-describedby", "place-" + alert.alert_id);
  });
}
function newRow(alert) {
  const row = make("li", "row");
  const details = make("details");
  const summary = make("summary", "", "Correct");
  const answers = make("div", "answers");
  details.append(summary, answers);
  row.append(make("h3"), make("p", "said"), make("span", "time"), details);
  buttons(answers, () => row.alert, ANSWERS.filter(([what]) => what !== "going"), "Correct the answer");
  return row;
}
function fillRow(row, alert) {
  row.alert = alert;
  const waiting = waitingFor(alert.alert_id);
  const last = waiting.length ? waiting[waiting.length - 1] : alert.answers[alert.answers.length - 1];
  put(row.querySelector("h3"), place(alert));
  put(row.querySelector(".said"), alert.title + (last ? " · " + who(last.by) + " " + SAID[last.answer] + (waiting.length ? " – not sent yet" : "") : ""));
  put(row.querySelector(".time"), clock(alert.raised_utc));
  row.querySelector("summary").setAttribute("aria-label", "Correct the answer for " + place(alert) + ", " + clock(alert.raised_utc));
}

// ---- Every second: ages, the connection, what waits ----
function frame() {
  if (!signedIn) return;
  const now = serverNow();
  $("open").querySelectorAll(".card").forEach((card) => {
    const ms = now - Date.parse(card.alert.raised_utc);
    const age = card.querySelector(".age");
    put(age, span(ms));
    const text = "Raised " + spoken(ms);
    if (age.getAttribute("aria-label") !== text) age.setAttribute("aria-label", text);
    const next = card.querySelector(".next");
    if (next) {
      const left = Date.parse(card.alert.next_level_utc) - now;
      put(next, left > 0 ? "Next contact is told in " + span(left) : "Next contact is being told");
    }
  });
  if (Date.now() - lastContact > SILENCE_MS) lost();
  const down = downSince !== null && Date.now() - downSince > PATIENCE_MS;
  $("connection").className = "connection" + (down ? " down" : view ? "" : " waiting");
  put($("connection-text"), down ? "No connection" : view ? "Connected · " + clock(now) : "Connecting");
  if (down && $("offline").hidden) call("No connection since " + clock(downSince + clockOffset));
  if (!down && !$("offline").hidden) say("The connection is back");
  show($("offline"), down);
  if (down) put($("offline-text"), "No connection since " + exact(downSince + clockOffset));
  const kind = queue.some((item) => item.alert_id === undefined) ? "message" : "answer";
  const waits = queue.length === 1 ? "1 " + kind + " waits to be sent." : queue.length + " " + kind + "s wait to be sent.";
  show($("offline-queue"), down && queue.length > 0);
  put($("offline-queue"), waits);
  show($("queue"), !down && queue.length > 0);
  put($("queue-text"), waits);
  put($("empty-text"), down ? "as of " + clock(downSince + clockOffset) : view && view.blind.length ? "But not all rooms are watched: see above." : "This page is watching for new ones.");
  soundState();
  if (down && !lowered && Date.now() - downSince > SILENCE_MS) { lowered = true; tone([[330, 0, .5], [247, .55, .8]]); }
  chime(false);
}

// ---- Sound ----
const soundRuns = () => audio !== null && audio.state === "running";
function soundState() {
  const button = $("sound");
  put(button, muted ? "Sound is muted" : soundRuns() ? "Mute sound" : "Turn sound on");
  button.classList.toggle("off", muted || !soundRuns());
  show($("silent"), !muted && !soundRuns());
  show(button, muted || soundRuns());
}
async function soundOn() {
  if (audio === null && window.AudioContext) audio = new AudioContext();
  if (audio && audio.state !== "running") { try { await audio.resume(); } catch { /* not allowed yet */ } }
  soundState();
}
function tone(notes) {
  if (muted || !soundRuns()) return;
  notes.forEach(([pitch, start, length]) => {
    const wave = audio.createOscillator(), volume = audio.createGain(), at = audio.currentTime + start;
    wave.type = "triangle";
    wave.frequency.value = pitch;
    volume.gain.setValueAtTime(0, at);
    volume.gain.linearRampToValueAtTime(.5, at + .02);
    volume.gain.exponentialRampToValueAtTime(.001, at + length);
    wave.connect(volume).connect(audio.destination);
    wave.start(at);
    wave.stop(at + length);
  });
}
function chime(atOnce) {
  if (!view || !view.open.some((alert) => stateOf(alert) === "open")) return;
  if (!atOnce && Date.now() - chimed < CHIME_MS) return;
  chimed = Date.now();
  tone([[880, 0, .35], [660, .3, .35], [880, .6, .5]]);
}

// ---- Coming in and going out ----
function signOut(problem) {
  signedIn = false;
  if (source) { source.close(); source = null; }
  view = null; known = null;
  $("report").open = false;
  [$("open"), $("older"), $("falls")].forEach((parent) => parent.replaceChildren());
  show($("page"), false); show($("tools"), false); show($("login"), true);
  put($("ward"), "Fall alerts");
  document.title = "Fall alerts";
  $("connection").className = "connection waiting";
  put($("connection-text"), "Not open");
  put($("login-problem"), problem || "");
}
function enter() {
  signedIn = true;
  lastContact = Date.now();
  downSince = null;
  show($("login"), false); show($("page"), true); show($("tools"), true);
  listen();
  frame();
}
async function open(key) {
  try {
    const response = await ask("POST", "/v1/session", {token: key});
    if (response.ok) { enter(); return; }
    signOut(response.status === 429 ? "Too many attempts: wait a minute." : "This key does not open a ward’s page. Ask your administrator for a new link.");
  } catch { signOut("The service cannot be reached. Try again in a moment."); }
}
async function start() {
  $("name").value = kept.get("name", "");
  const key = new URLSearchParams(location.hash.slice(1)).get("token");
  if (key) {
    history.replaceState(null, "", location.pathname);
    await open(key);
    return;
  }
  try {
    const response = await ask("GET", "/v1/ward/alerts");
    if (response.ok) { enter(); take(await response.json()); } else signOut("");
  } catch {
    signOut("The service cannot be reached. Trying again.");
    setTimeout(() => { if (!signedIn) start(); }, POLL_MS);
  }
}

$("login-form").addEventListener("submit", (event) => { event.preventDefault(); const key = $("key").value.trim(); $("key").value = ""; open(key); });
$("name").addEventListener("input", () => kept.set("name", $("name").value.trim()));
$("leave").addEventListener("click", async () => { try { await ask("DELETE", "/v1/session"); } catch { /* it ends by itself */ } signOut(""); });
$("report").addEventListener("toggle", offerReport);
$("report-form").addEventListener("submit", reportFall);
$("sound").addEventListener("click", async () => {
  if (muted || soundRuns()) { muted = !muted; kept.set("muted", muted); }
  await soundOn();
  if (!muted) tone([[880, 0, .25]]);
  say(muted ? "Sound is muted" : "Sound is on");
});
$("sound-on").addEventListener("click", async () => { await soundOn(); tone([[880, 0, .25]]); say("Sound is on"); $("open-heading").focus(); });
// Any press lets the browser play sound; a night's screen should not go dark.
async function pressed(event) {
  if (!signedIn) return;
  // The two buttons do it themselves.
  if (event && !muted && !soundRuns() && !event.target.closest("#sound, #sound-on")) soundOn();
  if (navigator.wakeLock && document.visibilityState === "visible") { try { await navigator.wakeLock.request("screen"); } catch { /* battery saver */ } }
}
document.addEventListener("click", pressed);
document.addEventListener("keydown", pressed);
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") { pressed(); poll(); } });
// A page that the browser keeps for going back must not keep its stream: there are six for each host.
window.addEventListener("pagehide", () => { if (source) source.close(); });
window.addEventListener("pageshow", (event) => { if (event.persisted && signedIn) listen(); });
window.addEventListener("online", () => { poll(); });
window.addEventListener("offline", () => { lost(); frame(); });
setInterval(frame, 1000);
setInterval(() => { poll(); if (queue.length) flush(); }, POLL_MS);
start();
